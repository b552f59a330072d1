//! The law of learning-rate annealing, from runs step by step.

use super::{Args, ObjectiveName, Quality, print_fit, table::Table};
use anyhow::{Result, bail};
use autodidact_scaling::lr_annealing_law::{Curve, FitOptions, fit_lambda};

pub fn report(args: &Args) -> Result<()> {
    if args.objective != ObjectiveName::Huber || args.frontier || args.plot.is_some() || args.budget.is_some() {
        bail!("the annealing law takes --bootstrap, --delta, --lambda and --warmup only");
    }
    let names =
        if args.columns.is_empty() { ["run", "lr", "loss"].map(String::from).to_vec() } else { args.columns.clone() };
    let [run, lr, loss] = &names[..] else { bail!("--columns: the annealing law has run, lr and loss") };
    let table = Table::read(&args.points)?;
    let mut curves: Vec<Curve> = vec![];
    let labels = table.labels(run)?;
    for ((label, (line, rate)), (_, measured)) in labels.into_iter().zip(table.column(lr)?).zip(table.column(loss)?) {
        if label == curves.len() {
            curves.push(Curve { lrs: vec![], warmup: args.warmup, points: vec![] });
        }
        let Ok(rate) = rate.parse::<f64>() else {
            bail!("{}, line {line}, column {lr}: expected a number, got {rate:?}", args.points.display());
        };
        let curve = &mut curves[label];
        if !measured.is_empty() && curve.lrs.len() >= args.warmup {
            curve.points.push((curve.lrs.len(), table.number(line, loss, measured)?));
        }
        curve.lrs.push(rate);
    }
    let options = FitOptions { delta: args.delta, resamples: args.bootstrap, seed: args.seed, ..Default::default() };
    let (fitted, profile) = fit_lambda(&curves, &args.lambda, &options)?;
    let (law, points) = (fitted.law, curves.iter().map(|c| c.points.len()).sum::<usize>());
    println!("annealing law, {points} points of {} runs, lambda {}", curves.len(), law.lambda);
    let constants = [("L0", law.l0), ("A", law.a), ("alpha", law.alpha), ("C", law.c)];
    print_fit(
        constants,
        &fitted.intervals,
        Quality {
            objective: fitted.objective,
            r2: fitted.r2,
            mean_error: fitted.mean_error,
            agreeing: fitted.agreeing,
        },
    );
    let profile: Vec<String> = profile.iter().map(|(lambda, objective)| format!("{lambda}: {objective:.4e}")).collect();
    println!("objective by lambda: {}", profile.join(", "));
    if let Some(share) = args.leave_largest_out {
        leave_longest_out(args, &curves, share, &options)?;
    }
    Ok(())
}

/// Fits without the last share of every run, and predicts it.
fn leave_longest_out(args: &Args, curves: &[Curve], share: f64, options: &FitOptions) -> Result<()> {
    if !(share > 0.0 && share < 1.0) {
        bail!("--leave-largest-out: expected a share between 0 and 1, got {share}");
    }
    let keep = |c: &Curve| ((1.0 - share) * c.points.len() as f64).round() as usize;
    let part = |c: &Curve, points: &[(usize, f64)]| Curve { points: points.to_vec(), ..c.clone() };
    let early: Vec<Curve> = curves.iter().map(|c| part(c, &c.points[..keep(c)])).collect();
    let (fitted, _) = fit_lambda(&early, &args.lambda, options)?;
    let mut errors = vec![];
    for curve in curves {
        errors.extend(fitted.law.relative_errors(&part(curve, &curve.points[keep(curve)..]))?);
    }
    let mean = errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len().max(1) as f64;
    println!(
        "without the last {} points of the runs it predicts them with a mean error of {:.3} %",
        errors.len(),
        100.0 * mean
    );
    Ok(())
}
