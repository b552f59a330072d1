//! Checkpoints: tensors and JSON values in one safetensors file, written atomically.

use crate::{Error, Result};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Named tensors and JSON values.
#[derive(Debug, Default)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
    values: HashMap<String, String>,
}

struct Bytes<'a>(&'a Tensor, Dtype, Vec<usize>);

impl View for Bytes<'_> {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[usize] {
        &self.2
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let t = self.0.to_device(Device::Cpu).contiguous();
        let count = t.numel();
        let mut bytes = vec![0; self.data_len()];
        t.copy_data_u8(&mut bytes, count);
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.0.numel() * self.0.kind().elt_size_in_bytes()
    }
}

const KINDS: [(Kind, Dtype); 8] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

impl Checkpoint {
    /// Adds tensors as `<prefix>/<name>`; they are shared, not copied.
    pub fn insert(&mut self, prefix: &str, tensors: impl IntoIterator<Item = (String, Tensor)>) {
        self.tensors.extend(tensors.into_iter().map(|(name, t)| (format!("{prefix}/{name}"), t)));
    }

    /// The tensors of a prefix, by name without it.
    pub fn section(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let named = |(name, t): (&String, &Tensor)| {
            let name = name.strip_prefix(prefix)?.strip_prefix('/')?;
            Some((name.to_owned(), t.shallow_clone()))
        };
        self.tensors.iter().filter_map(named).collect()
    }

    /// All tensors under their full names.
    pub fn all(&self) -> BTreeMap<String, Tensor> {
        self.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect()
    }

    /// Sets a value.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn set(&mut self, key: &str, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string(value).map_err(|e| Error::value(key, "a value that JSON can hold", e))?;
        self.values.insert(key.to_owned(), json);
        Ok(())
    }

    /// A value.
    ///
    /// # Errors
    /// An absent key, or a value of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let json = self.values.get(key).ok_or_else(|| Error::value("checkpoint", format!("a value {key}"), "none"))?;
        serde_json::from_str(json).map_err(|e| Error::value(format!("checkpoint value {key}"), "another type", e))
    }

    /// Writes the file beside its place, syncs and renames it: at any moment the old file or the new one is there, whole.
    ///
    /// # Errors
    /// What the system says (a full disk, say); the old file stays.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_tensors(path, &self.tensors, self.values.clone())
    }

    /// Reads a file onto a device.
    ///
    /// # Errors
    /// A file that is missing, truncated or no safetensors file.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        let values = read_tensors(path, |name, t| {
            tensors.insert(name.to_owned(), t.to_device(device));
            Ok(())
        })?;
        Ok(Self { tensors, values })
    }
}

/// Writes a safetensors file with these tensors and header entries, atomically.
///
/// # Errors
/// What the system says, the old file then stays; a tensor type that the format does not have.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    header: HashMap<String, String>,
) -> Result<()> {
    let views = tensors.iter().map(|(name, t)| {
        let dtype = KINDS.iter().find(|(kind, _)| *kind == t.kind()).map(|(_, dtype)| *dtype);
        let dtype =
            dtype.ok_or_else(|| Error::value(name, "a tensor type that safetensors has", format!("{:?}", t.kind())))?;
        Ok((name, Bytes(t, dtype, t.size().iter().map(|&d| d as usize).collect())))
    });
    let bytes = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(header))
        .map_err(|e| Error::Failed(format!("{}: {e}", path.display())))?;
    write_atomically(path, &bytes)
}

/// Hands the tensors of a safetensors file, on the CPU, to `each` one by one; returns the header's entries.
///
/// # Errors
/// A file that is missing, truncated or no safetensors file; those of `each`.
pub(crate) fn read_tensors(
    path: &Path,
    mut each: impl FnMut(&str, Tensor) -> Result<()>,
) -> Result<HashMap<String, String>> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let bad = |e: safetensors::SafeTensorError| Error::format(path, "a whole safetensors file", e.to_string());
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
    let file = SafeTensors::deserialize(&bytes).map_err(bad)?;
    for (name, view) in file.iter() {
        let kind = KINDS.iter().find(|(_, dtype)| *dtype == view.dtype()).map(|(kind, _)| *kind);
        let kind = kind.ok_or_else(|| {
            Error::format(path, format!("tensor {name} of a type of libtorch"), format!("{:?}", view.dtype()))
        })?;
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        each(name, Tensor::f_from_data_size(view.data(), &shape, kind)?)?;
    }
    Ok(header.metadata().clone().unwrap_or_default())
}

/// Writes a file so that a reader, or a run after a crash, sees the old content or the new, never a part.
///
/// # Errors
/// What the system says; the temporary file is removed and the old content stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A process number is not enough: on a shared folder those of two machines (or containers) may be the same.
    let nonce = RandomState::new().build_hasher().finish();
    let temporary = folder.join(format!(".{name}.{nonce:016x}.tmp"));
    write_through(&temporary, path, bytes).map_err(|e| Error::io(path, e))?;
    // The rename itself must reach the disk too.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn write_through(temporary: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let write = || {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_and_values_survive_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.safetensors");
        let mut c = Checkpoint::default();
        let floats = Tensor::from_slice(&[1.5f32, -2.0, f32::MIN_POSITIVE]).view([3, 1]);
        c.insert("model", [("w".to_owned(), floats.shallow_clone()), ("n".to_owned(), Tensor::from(7i64))]);
        c.insert("other", [("h".to_owned(), floats.to_kind(Kind::BFloat16))]);
        c.set("next", &42usize).unwrap();
        c.save(&path).unwrap();
        let back = Checkpoint::load(&path, Device::Cpu).unwrap();
        assert_eq!(back.section("model")["w"], floats);
        assert_eq!(i64::try_from(&back.section("model")["n"]).unwrap(), 7);
        assert_eq!(back.section("other")["h"].kind(), Kind::BFloat16);
        assert_eq!(back.get::<usize>("next").unwrap(), 42);
        assert!(back.get::<usize>("missing").is_err());

        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let e = Checkpoint::load(&path, Device::Cpu).unwrap_err();
        assert!(e.to_string().contains("a whole safetensors file"), "{e}");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        // Writes to /dev/full fail as on a full disk.
        let temporary = folder.path().join("temporary");
        std::os::unix::fs::symlink("/dev/full", &temporary).unwrap();
        fs::write(&path, b"old").unwrap();
        let e = write_through(&temporary, &path, b"new").unwrap_err();
        assert!(e.to_string().contains("No space left") && !temporary.is_symlink(), "{e}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
