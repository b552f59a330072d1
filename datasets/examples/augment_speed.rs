//! Time of two Barlow Twins views of 512 colour images of 32x32, the figure that scripts/augment_peer.py measures for
//! torchvision.
//!
//! `cargo run --release -p autodidact-datasets --example augment_speed`

use autodidact_core::Result;
use autodidact_core::seed::rng;
use autodidact_datasets::augment::{BarlowTwins, Pipeline};
use autodidact_datasets::image::shapes;
use std::time::Instant;

fn main() -> Result<()> {
    let images = shapes(0, 0..512).images;
    let (a, b) = BarlowTwins { size: 32, ..Default::default() }.pipelines();
    let views = || Ok((a.apply(&images, &mut rng(0, &["a"]))?, b.apply(&images, &mut rng(0, &["b"]))?));
    report("two views", views)?;
    // Each transform of T' alone, for profiling.
    for transform in &b.0 {
        let name = format!("{transform:?}");
        let alone = Pipeline(vec![transform.clone()]);
        report(name.split([' ', '(']).next().unwrap_or_default(), || alone.apply(&images, &mut rng(0, &["b"])))?;
    }
    Ok(())
}

/// Prints the median time of 15 runs.
fn report<T>(name: &str, run: impl Fn() -> Result<T>) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort();
    println!("{name}: {:.2?}", times[times.len() / 2]);
    Ok(())
}
