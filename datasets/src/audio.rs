//! Sound: WAV files.

use crate::files::io_error;
use autodidact_core::{Error, Result};
use hound::{SampleFormat, WavReader};
use std::path::Path;
use tch::Tensor;

/// A recording.
#[derive(Debug)]
pub struct Wav {
    /// Samples, `Float [channels, T]`; integer formats are scaled to `[-1, 1)`.
    pub samples: Tensor,
    /// Samples per second.
    pub sample_rate: u32,
}

/// Reads a WAV file of integer (8 to 32 bit) or float samples.
pub fn read_wav(path: &Path) -> Result<Wav> {
    let broken = |e: hound::Error| match e {
        hound::Error::IoError(e) if e.kind() == std::io::ErrorKind::NotFound => io_error(path, "a WAV file", e),
        e => Error::format(path, "a complete WAV file", e.to_string()),
    };
    let mut reader = WavReader::open(path).map_err(broken)?;
    let spec = reader.spec();
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect::<Result<_, _>>().map_err(broken)?,
        SampleFormat::Int => {
            let scale = (1i64 << (spec.bits_per_sample - 1)) as f32;
            reader.samples::<i32>().map(|s| s.map(|v| v as f32 / scale)).collect::<Result<_, _>>().map_err(broken)?
        }
    };
    let interleaved = Tensor::from_slice(&samples).view([-1, i64::from(spec.channels)]);
    Ok(Wav { samples: interleaved.transpose(0, 1).contiguous(), sample_rate: spec.sample_rate })
}
