//! Choice of device and precision, and memory use.
//!
//! Binaries link only the CPU half of libtorch. [`Device`]s of NVIDIA GPUs appear when `libtorch_cuda.so` is found at
//! run time, so one binary serves both kinds of machine.

use crate::{Error, Result, shim};
use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Cuda, Device, Kind, Tensor};

/// What a user asks for: `auto` takes the GPU when there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if one works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA device of this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => match s.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(index)) => Ok(Self::Cuda(index)),
                _ => Err(Error::value("device", "auto, cpu, cuda or cuda:N", s)),
            },
        }
    }
}

impl DeviceChoice {
    /// The device to use.
    ///
    /// # Errors
    /// A CUDA device that was asked for and is not there, with the reason.
    pub fn resolve(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(if load_cuda().is_ok() && Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu }),
            Self::Cuda(index) => {
                load_cuda().map_err(|why| {
                    Error::value("device", "a CUDA build of libtorch (run `cargo xtask setup --cuda`)", why)
                })?;
                match Cuda::device_count() {
                    n if (index as i64) < n => Ok(Device::Cuda(index)),
                    0 => Err(Error::value("device", "an NVIDIA GPU with a working driver", "none; use --device cpu")),
                    n => Err(Error::value("device", format!("a CUDA index below {n}"), index)),
                }
            }
        }
    }
}

/// Kind and place of a tensor that is made on the host whatever the device is: constants that are moved to a module's device, and
/// draws that are to be the same for every device. Everything else is made on the device of its inputs.
pub fn on_host(kind: Kind) -> (Kind, Device) {
    (kind, Device::Cpu)
}

/// Loads `libtorch_cuda.so` with global symbols, once; libtorch's dispatcher then knows the CUDA kernels.
fn load_cuda() -> Result<(), &'static str> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            #[cfg(unix)]
            {
                use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
                // SAFETY: libtorch_cuda registers its kernels in static initialisers and has no other load-time effects.
                match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
                    Ok(library) => {
                        std::mem::forget(library);
                        Ok(())
                    }
                    Err(e) => Err(e.to_string()),
                }
            }
            #[cfg(not(unix))]
            Err("CUDA is loaded dynamically on Linux only".into())
        })
        .as_ref()
        .copied()
        .map_err(String::as_str)
}

/// Arithmetic of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Precision {
    /// 32-bit floats throughout, within a surrounding [`Bf16`](Self::Bf16) too: losses that must sum in 32 bits ask for it.
    #[default]
    F32,
    /// Autocast: matrix products and convolutions in bfloat16, reductions and losses in 32 bits, weights in 32 bits.
    Bf16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::value("precision", "f32 or bf16", s)),
        }
    }
}

impl Display for Precision {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::F32 { "f32" } else { "bf16" })
    }
}

static TRAINS_IN_BF16: AtomicBool = AtomicBool::new(false);

impl Precision {
    /// The precision of training runs of this process that choose none ([`TrainConfig::new`](crate::train::TrainConfig::new)): 32-bit
    /// floats, unless [`set_for_training`](Self::set_for_training) has been called.
    pub fn for_training() -> Self {
        if TRAINS_IN_BF16.load(Ordering::Relaxed) { Self::Bf16 } else { Self::F32 }
    }

    /// Changes [`for_training`](Self::for_training), as a program does once at its start.
    pub fn set_for_training(self) {
        TRAINS_IN_BF16.store(self == Self::Bf16, Ordering::Relaxed);
    }

    /// Runs a forward pass in this precision, whatever surrounds it. The backward pass belongs outside.
    ///
    /// # Errors
    /// Those of `forward`, and of entering autocast on a device without it.
    pub fn run<T>(self, device: Device, forward: impl FnOnce() -> Result<T>) -> Result<T> {
        let _guard = shim::Autocast::enter(device, self == Self::Bf16)?;
        forward()
    }
}

/// Runs a loss of floating-point tensors in 32 bits, under autocast too (which would multiply matrices in bf16), or in 64 bits if they
/// come in 64. Autocast is that of the first one's device.
///
/// # Errors
/// Those of the loss.
pub fn in_full_precision<const N: usize, T>(
    inputs: [&Tensor; N],
    loss: impl FnOnce([Tensor; N]) -> Result<T>,
) -> Result<T> {
    let wide = |z: &Tensor| if z.kind() == Kind::Double { z.shallow_clone() } else { z.to_kind(Kind::Float) };
    Precision::F32.run(inputs[0].device(), || loss(inputs.map(wide)))
}

/// Treats denormal numbers (below about 1e-38) as zero on the calling thread, or no longer; false where the processor cannot. Where
/// gradients nearly vanish, their squares in Adam's second moment otherwise slow kernels down by orders of magnitude.
pub fn flush_denormals(on: bool) -> bool {
    shim::flush_denormals(on)
}

/// Peak memory of the process so far in MB (1e6 bytes): resident set on the CPU, libtorch's allocator on a GPU.
pub fn peak_memory_mb(device: Device) -> f64 {
    match device {
        Device::Cuda(index) => shim::cuda_peak_bytes(index, false).map_or(0.0, |b| b as f64 / 1e6),
        _ => peak_resident_mb(),
    }
}

#[cfg(unix)]
fn peak_resident_mb() -> f64 {
    // SAFETY: `getrusage` fills the struct it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let unit = if cfg!(target_os = "macos") { 1.0 } else { 1024.0 };
    usage.ru_maxrss as f64 * unit / 1e6
}

#[cfg(not(unix))]
fn peak_resident_mb() -> f64 {
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_parse_and_bad_ones_say_what_is_accepted() {
        assert_eq!("auto".parse::<DeviceChoice>().unwrap(), DeviceChoice::Auto);
        assert_eq!("cuda:1".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(1));
        for precision in [Precision::F32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        }
        assert!("fp16".parse::<Precision>().unwrap_err().to_string().contains("f32 or bf16"));
        let e = "gpu".parse::<DeviceChoice>().unwrap_err();
        assert_eq!(e.to_string(), "device: expected auto, cpu, cuda or cuda:N, got gpu");
    }

    #[test]
    fn an_absent_gpu_is_an_error_and_auto_falls_back() {
        let device = DeviceChoice::Auto.resolve().unwrap();
        if device == Device::Cpu {
            assert!(DeviceChoice::Cuda(0).resolve().unwrap_err().to_string().starts_with("device: expected"));
        }
    }

    #[test]
    fn autocast_multiplies_in_bf16_and_ends_with_its_scope() {
        let a = Tensor::rand([4, 4], (Kind::Float, Device::Cpu));
        let inside = Precision::Bf16.run(Device::Cpu, || Ok(a.matmul(&a).kind())).unwrap();
        assert_eq!(inside, Kind::BFloat16);
        let product = || Ok(a.matmul(&a).kind());
        assert_eq!(Precision::F32.run(Device::Cpu, product).unwrap(), Kind::Float);
        let nested = Precision::Bf16.run(Device::Cpu, || Ok((Precision::F32.run(Device::Cpu, product)?, product()?)));
        assert_eq!(nested.unwrap(), (Kind::Float, Kind::BFloat16));
        assert_eq!(a.matmul(&a).kind(), Kind::Float);
    }

    #[test]
    fn denormals_are_flushed_on_request() {
        let tiny = || (Tensor::from(1e-20f32) * Tensor::from(1e-20f32)).double_value(&[]);
        assert!(tiny() > 0.0);
        if flush_denormals(true) {
            assert_eq!(tiny(), 0.0);
            flush_denormals(false);
            assert!(tiny() > 0.0);
        }
    }

    #[test]
    fn peak_memory_is_at_least_what_a_live_tensor_takes() {
        let t = Tensor::ones([8_000_000], (Kind::Float, Device::Cpu));
        assert!(peak_memory_mb(Device::Cpu) > 32.0);
        drop(t);
    }
}
