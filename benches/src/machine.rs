//! The machine, and the memory of this process.

use std::fs;

/// The processor's name as the system gives it.
pub fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The largest number of MB (1e6 bytes) by which the resident memory rises while `work` runs; `None` where the system does not
/// tell (it does on Linux).
pub fn memory_of<T>(work: impl FnOnce() -> T) -> (T, Option<f64>) {
    let before = start_of_peak();
    let result = work();
    let rise = before.and_then(|before| Some((resident("VmHWM:")? - before).max(0.0)));
    (result, rise)
}

/// Gives freed memory back to the system and sets the high-water mark to what is left; returns that.
fn start_of_peak() -> Option<f64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` only returns free pages.
    unsafe {
        libc::malloc_trim(0);
    }
    fs::write("/proc/self/clear_refs", "5").ok()?;
    resident("VmRSS:")
}

fn resident(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|l| l.strip_prefix(field))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<f64>().ok()? * 1024.0 / 1e6)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_the_work_alone() {
        let touch = |mb: usize| std::hint::black_box(vec![1u8; mb * 1_000_000]).len();
        let (_, large) = memory_of(|| touch(200));
        // The first peak must not hide the second.
        let (_, small) = memory_of(|| touch(40));
        let (large, small) = (large.unwrap(), small.unwrap());
        assert!((195.0..230.0).contains(&large) && (35.0..70.0).contains(&small), "{large} {small}");
    }

    #[test]
    fn the_processor_has_a_name() {
        assert!(!cpu().is_empty());
    }
}
