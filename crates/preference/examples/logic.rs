//! What a preference loss says: its formulas, its place among the known losses, its value and gradient.
//!
//! `cargo run --release -p autodidact-preference --example logic -- --loss "p_w (1 - p_l) / p_l" --pw 0.3 --pl 0.2`
//!
//! A loss is a name (`--list` prints them), marks (`*+-.`), numerator and denominator in p_w, p_l and the reference's q_w, q_l, or
//! formulas (`--core "l -> w" --cond "w or l" --add false`).

use anyhow::{Context, Result, bail};
use autodidact_preference::preference_logic::{
    Formula, Input, Link, PROBABILITIES, Polynomial, PreferenceStructure, SHORT, catalogue, compile, decompile, lattice,
};
use clap::Parser;
use tch::{Kind, Tensor};

#[derive(Parser)]
#[command(about = "What a preference loss says in logic")]
struct Args {
    /// A name, marks or `numerator / denominator`
    #[arg(long, allow_hyphen_values = true, required_unless_present_any = ["core", "list", "dot"])]
    loss: Option<String>,
    /// The core formula, over w, l, w_ref, l_ref
    #[arg(long, conflicts_with = "loss")]
    core: Option<String>,
    /// The conditioning constraint
    #[arg(long, default_value = "true")]
    cond: String,
    /// The additive condition
    #[arg(long, default_value = "false")]
    add: String,
    /// Take it relative to a reference
    #[arg(long)]
    reference: bool,
    /// Probability of the winner
    #[arg(long, default_value_t = 0.3)]
    pw: f64,
    /// Probability of the loser
    #[arg(long, default_value_t = 0.2)]
    pl: f64,
    /// The reference's probability of the winner
    #[arg(long, default_value_t = 0.25)]
    qw: f64,
    /// The reference's probability of the loser
    #[arg(long, default_value_t = 0.25)]
    ql: f64,
    /// Factor of the log-ratio in -log sigmoid; that of a named loss if it has one
    #[arg(long)]
    beta: Option<f64>,
    /// Print all named losses
    #[arg(long)]
    list: bool,
    /// Print the order of the policy's named losses for Graphviz
    #[arg(long)]
    dot: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.list {
        for loss in catalogue() {
            let marks = loss.structure.marks();
            println!("{:6} {:16} {}", loss.name, marks, loss.structure.describe(loss.input.names()));
        }
        return Ok(());
    }
    if args.dot {
        let losses: Vec<_> = catalogue().into_iter().filter(|loss| loss.input == Input::Policy).collect();
        let (names, structures): (Vec<_>, Vec<_>) = losses.into_iter().map(|l| (l.name, l.structure)).unzip();
        print!("{}", lattice(&structures).to_dot(&names)?);
        return Ok(());
    }
    let (mut structure, mut link) = read(&args)?;
    if args.reference {
        structure = structure.with_reference()?;
    }
    if let Some(beta) = args.beta {
        link = Link::LogSigmoid { beta };
    }
    if ![2, 4].contains(&structure.propositions()) {
        bail!(
            "a loss of {} propositions; only those over w, l and their reference copies are shown",
            structure.propositions()
        );
    }
    describe(&structure);
    compare(&structure)?;
    evaluate(&structure, link, &args)
}

fn read(args: &Args) -> Result<(PreferenceStructure, Link)> {
    if let Some(core) = &args.core {
        let [core, cond, add] = [core, &args.cond, &args.add].map(|text| text.parse::<Formula>());
        let [core, cond, add] = [core?, cond?, add?];
        let n = if [&core, &cond, &add].iter().any(|f| f.arity() > 2) { 4 } else { 2 };
        return Ok((PreferenceStructure::new(core, cond, add, n)?, Link::default()));
    }
    let text = args.loss.as_deref().context("--loss or --core says which loss")?;
    if let Some(known) = catalogue().into_iter().find(|loss| loss.name.eq_ignore_ascii_case(text)) {
        return Ok((known.structure, known.link));
    }
    if text.chars().all(|c| "*+-.".contains(c)) {
        return Ok((PreferenceStructure::from_marks(text)?, Link::default()));
    }
    if !text.contains('/') {
        bail!("{text:?} is no named loss (--list prints them), no marks and no ratio");
    }
    let names = if text.contains("q_") { &PROBABILITIES[..] } else { &PROBABILITIES[..2] };
    let (above, below) = Polynomial::parse_ratio(text, names)?;
    Ok((decompile(&above, &below)?, Link::default()))
}

fn describe(structure: &PreferenceStructure) {
    let marks = structure.marks();
    let yes = |b| if b { "yes" } else { "no" };
    println!("N          {}", marks.winning().model_count(&PROBABILITIES));
    println!("D          {}", marks.losing().model_count(&PROBABILITIES));
    println!("P          {}", structure.core().with_names(&SHORT));
    println!("P_C        {}", structure.cond().with_names(&SHORT));
    println!("P_A        {}", structure.add().with_names(&SHORT));
    println!("marks      {marks}");
    println!("consistent {}", yes(marks.consistent()));
    println!("monotone   {}", yes(marks.monotone()));
}

/// Among the known losses of as many propositions; with a reference, among the policy's losses relative to one as well.
fn compare(structure: &PreferenceStructure) -> Result<()> {
    let (mut same, mut below, mut above) = (Vec::new(), Vec::new(), Vec::new());
    for known in catalogue() {
        let mut others = vec![(known.name.to_owned(), known.structure.clone())];
        if known.structure.propositions() == 2 && known.link == Link::default() {
            others.push((format!("{} with reference", known.name), known.structure.with_reference()?));
        }
        for (name, other) in others.into_iter().filter(|(_, s)| s.propositions() == structure.propositions()) {
            match (structure.stronger_than(&other), other.stronger_than(structure)) {
                (true, true) => same.push(name),
                (true, false) => below.push(name),
                (false, true) => above.push(name),
                (false, false) => {}
            }
        }
    }
    let line = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    println!("equals     {}", line(same));
    println!("entails    {}", line(below));
    println!("follows    {}", line(above));
    Ok(())
}

fn evaluate(structure: &PreferenceStructure, link: Link, args: &Args) -> Result<()> {
    let loss = compile(structure, link)?;
    let n = structure.propositions();
    let p = &[args.pw, args.pl, args.qw, args.ql][..n];
    if let Some(bad) = p.iter().find(|p| !(**p > 0.0 && **p <= 1.0)) {
        bail!("a probability of {bad}: they are above 0 and at most 1");
    }
    let log_probs = Tensor::from_slice(p).log().view([1, n as i64]).set_requires_grad(true);
    let value = loss.forward(&log_probs)?;
    value.sum(Kind::Double).backward();
    let at = |t: &Tensor, i| t.view(-1).double_value(&[i]);
    let given: Vec<_> = PROBABILITIES.iter().zip(p).map(|(name, p)| format!("{name} = {p}")).collect();
    println!("at         {}", given.join(", "));
    println!("rho        {:.6}", at(&loss.rho(&log_probs)?, 0));
    println!("loss       {:.6}   {link:?}", at(&value, 0));
    let gradient = log_probs.grad();
    println!("gradient   {:.6} in log p_w, {:.6} in log p_l", at(&gradient, 0), at(&gradient, 1));
    Ok(())
}
