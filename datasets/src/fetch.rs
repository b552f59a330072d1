//! Downloads of published data sets: resumed after an interruption, checked, and put in place in one step.

use autodidact_core::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Its address.
    pub url: &'static str,
    /// Where it belongs, below the data directory.
    pub path: &'static str,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: &'static str,
}

/// A data set that can be had from its publisher or a public mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its name, see [`load_images`](crate::load_images), [`load_text`](crate::load_text) and
    /// [`load_interactions`](crate::load_interactions).
    pub name: &'static str,
    /// The places below the data directory where it may lie in the publisher's format, each with a file below the place
    /// that is there when the data set is (the one downloaded last; empty: the place itself). The first that exists
    /// counts.
    pub places: &'static [(&'static str, &'static str)],
    /// The files to download; none of a set that its publisher wants to be asked for.
    pub files: &'static [Remote],
}

/// The data sets with a known place.
pub const SOURCES: [Source; 10] = [
    Source {
        name: "cifar10",
        places: &[("cifar-10-batches-bin", "test_batch.bin"), ("cifar-10-binary.tar.gz", "")],
        files: &[Remote {
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            path: "cifar-10-binary.tar.gz",
            sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        }],
    },
    Source {
        name: "cifar100",
        places: &[("cifar-100-binary", "test.bin"), ("cifar-100-binary.tar.gz", "")],
        files: &[Remote {
            url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            path: "cifar-100-binary.tar.gz",
            sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        }],
    },
    Source {
        name: "mnist",
        places: &[
            ("mnist", "t10k-labels-idx1-ubyte.gz"),
            ("mnist", "t10k-labels-idx1-ubyte"),
            ("MNIST/raw", "t10k-labels-idx1-ubyte.gz"),
            ("MNIST/raw", "t10k-labels-idx1-ubyte"),
        ],
        files: &[
            Remote {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
                path: "mnist/train-images-idx3-ubyte.gz",
                sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            },
            Remote {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
                path: "mnist/train-labels-idx1-ubyte.gz",
                sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            },
            Remote {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
                path: "mnist/t10k-images-idx3-ubyte.gz",
                sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            },
            Remote {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
                path: "mnist/t10k-labels-idx1-ubyte.gz",
                sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
        ],
    },
    // In MNIST's format; Zalando offers no digests of its files but MD5.
    Source {
        name: "fashion-mnist",
        places: &[
            ("fashion-mnist", "t10k-labels-idx1-ubyte.gz"),
            ("fashion-mnist", "t10k-labels-idx1-ubyte"),
            ("FashionMNIST/raw", "t10k-labels-idx1-ubyte.gz"),
            ("FashionMNIST/raw", "t10k-labels-idx1-ubyte"),
        ],
        files: &[],
    },
    Source { name: "multi30k", places: &[("multi30k", "train.de.gz"), ("multi30k", "train.de")], files: &[] },
    Source {
        name: "tofu",
        places: &[("tofu", "world_facts_perturbed.json"), ("TOFU", "world_facts_perturbed.json")],
        files: &[],
    },
    Source { name: "ml-100k", places: &[("ml-100k", "u.data")], files: &[] },
    Source { name: "ml-1m", places: &[("ml-1m", "ratings.dat")], files: &[] },
    Source {
        name: "amazon-beauty",
        places: &[("ratings_Beauty.csv", ""), ("amazon-beauty/ratings_Beauty.csv", "")],
        files: &[],
    },
    Source {
        name: "tinyshakespeare",
        places: &[("tinyshakespeare/input.txt", ""), ("tinyshakespeare.txt", "")],
        files: &[Remote {
            url: "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            path: "tinyshakespeare/input.txt",
            sha256: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        }],
    },
];

/// The source called `name`; an unknown name is an error that suggests the closest one.
pub fn source(name: &str) -> Result<&'static Source> {
    let names = SOURCES.map(|s| s.name);
    SOURCES.iter().find(|s| s.name == name).ok_or_else(|| crate::names::unknown(name, &names))
}

/// Where `source` lies below `data_dir`, in the publisher's format, if it does.
pub fn locate(data_dir: &Path, source: &Source) -> Option<PathBuf> {
    source.places.iter().find_map(|(place, probe)| {
        let place = data_dir.join(place);
        // Joining an empty path would ask for a folder.
        let there = if probe.is_empty() { place.is_file() } else { place.join(probe).is_file() };
        there.then_some(place)
    })
}

/// Progress of a download: bytes so far, and in all when the server says.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// Downloads what is missing of `source` to below `data_dir` and returns where it lies.
pub fn download(data_dir: &Path, source: &Source, progress: Progress) -> Result<PathBuf> {
    for file in source.files {
        fetch(file.url, &data_dir.join(file.path), file.sha256, progress)?;
    }
    locate(data_dir, source)
        .ok_or_else(|| Error::format(data_dir, format!("{} after its download", source.name), "nothing"))
}

/// Attempts in a row that bring nothing before a download is given up.
const ATTEMPTS: u32 = 4;

/// Downloads `url` to `target` unless it is there already.
///
/// Bytes go to `target` with `.part` appended, which survives an interruption: the next attempt (here, or in a later
/// run) asks the server for the rest only. The file is checked against `sha256`, written through to the disk and
/// renamed, so `target` is never half a file. Content of another digest is removed and reported. Two processes may ask
/// for one file at the same time: the second waits.
pub fn fetch(url: &str, target: &Path, sha256: &str, progress: Progress) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    let folder = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let part = part_of(target);
    let io = |e| Error::io(&part, e);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part).map_err(io)?;
    file.lock().map_err(io)?;
    if target.exists() {
        return Ok(());
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut fruitless = 0;
    while let Err(failure) = attempt(&agent, url, &mut file, progress) {
        match failure {
            Failure::Final(error) => return Err(error),
            Failure::Local(error) => return Err(Error::io(&part, error)),
            Failure::Broken { reason, gained } => {
                fruitless = if gained { 0 } else { fruitless + 1 };
                if fruitless == ATTEMPTS {
                    let advice = "check the connection and run again: the download continues where it stopped";
                    return Err(Error::Failed(format!("{url}: {reason}; {advice}")));
                }
                std::thread::sleep(Duration::from_millis(100 << (2 * fruitless)));
            }
        }
    }
    let found = digest(&mut file).map_err(io)?;
    if found != sha256 {
        std::fs::remove_file(&part).map_err(io)?;
        let advice = "(the download was removed; run again, or fetch the file by hand)";
        return Err(Error::format(target, format!("SHA-256 {sha256} from {url}"), format!("{found} {advice}")));
    }
    file.sync_all().map_err(io)?;
    std::fs::rename(&part, target).map_err(io)?;
    // On Unix a rename lasts once its folder has been written.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().map_err(|e| Error::io(target, e))?;
    }
    Ok(())
}

fn part_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

enum Failure {
    /// Trying again will not help.
    Final(Error),
    /// The file could not be written.
    Local(std::io::Error),
    /// The connection failed; whether bytes had arrived.
    Broken { reason: String, gained: bool },
}

/// One request for the bytes that `file` lacks.
fn attempt(agent: &ureq::Agent, url: &str, file: &mut File, progress: Progress) -> Result<(), Failure> {
    let have = file.seek(SeekFrom::End(0)).map_err(Failure::Local)?;
    let broken = |reason: String, gained| Failure::Broken { reason, gained };
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|e| broken(e.to_string(), false))?;
    let status = response.status().as_u16();
    let range = response.headers().get("content-range").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let start = match status {
        206 if range.starts_with(&format!("bytes {have}-")) => have,
        // The whole file: the server does not resume.
        200 => 0,
        // Nothing lies beyond what is there: it is complete, or of another file.
        416 if range == format!("bytes */{have}") => return Ok(()),
        206 | 416 => {
            file.set_len(0).map_err(Failure::Local)?;
            return Err(broken(format!("the server answered {status} with range {range:?}"), false));
        }
        429 | 500..=599 => return Err(broken(format!("the server answered {status}"), false)),
        _ => return Err(Failure::Final(Error::Failed(format!("{url}: the server answered {status}")))),
    };
    file.set_len(start).and_then(|()| file.seek(SeekFrom::End(0))).map_err(Failure::Local)?;
    let length = response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let total = length.map(|l| start + l);
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 1 << 16];
    let mut done = start;
    loop {
        match body.read(&mut buffer) {
            Ok(0) if total.is_none_or(|t| t == done) => return Ok(()),
            Ok(0) => return Err(broken(format!("the connection ended after {done} bytes"), done > start)),
            Ok(n) => {
                file.write_all(&buffer[..n]).map_err(Failure::Local)?;
                done += n as u64;
                progress(done, total);
            }
            Err(e) => return Err(broken(format!("{e} after {done} bytes"), done > start)),
        }
    }
}

pub(crate) fn digest(file: &mut File) -> std::io::Result<String> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
