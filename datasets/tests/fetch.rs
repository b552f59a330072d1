//! Downloads against a local server that misbehaves in the ways real ones do.

use autodidact_datasets::fetch::{Remote, Source, download, fetch, locate, source};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// How the server answers a request; the last entry of the list answers all further ones.
#[derive(Clone, Copy)]
enum Answer {
    /// All that was asked for, ranges included.
    Full,
    /// Promises all, sends this many bytes and closes the connection.
    Break(usize),
    /// The whole body whatever the range.
    NoRange,
    /// Bytes from another place than asked for.
    WrongRange,
    /// A status and no body.
    Status(u16),
}

/// Serves `body`; returns the address and the ranges asked for.
fn serve(body: Vec<u8>, answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/file", listener.local_addr().unwrap());
    let starts = Arc::new(Mutex::new(Vec::new()));
    let log = starts.clone();
    std::thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let answer = answers[i.min(answers.len() - 1)];
            // A client that hangs up early is none of the server's business.
            let _ = reply(stream.unwrap(), &body, answer, &log);
        }
    });
    (address, starts)
}

fn reply(mut stream: TcpStream, body: &[u8], answer: Answer, log: &Mutex<Vec<usize>>) -> std::io::Result<()> {
    let mut start = 0;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    log.lock().unwrap().push(start);
    let total = body.len();
    let (status, range, content) = match answer {
        Answer::Status(code) => {
            return write!(stream, "HTTP/1.1 {code} Status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Answer::NoRange => (200, String::new(), body),
        Answer::WrongRange => (206, format!("Content-Range: bytes 0-{}/{total}\r\n", total - 1), body),
        _ if start == 0 => (200, String::new(), body),
        _ if start >= total => (416, format!("Content-Range: bytes */{total}\r\n"), &body[..0]),
        _ => (206, format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1), &body[start..]),
    };
    let length = content.len();
    write!(stream, "HTTP/1.1 {status} Status\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    let sent = if let Answer::Break(n) = answer { n.min(length) } else { length };
    stream.write_all(&content[..sent])
}

fn body() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The result of a download, the file, the ranges asked for, the progress reported, and whether a partial file remains.
type Outcome = (autodidact_core::Result<()>, Option<Vec<u8>>, Vec<usize>, Vec<u64>, bool);

/// Fetches the body from a server of this behaviour, with a partial file there already.
fn run(answers: Vec<Answer>, already: &[u8]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (target, part) = (folder.path().join("sub/file.bin"), folder.path().join("sub/file.bin.part"));
    if !already.is_empty() {
        std::fs::create_dir_all(folder.path().join("sub")).unwrap();
        std::fs::write(&part, already).unwrap();
    }
    let (url, starts) = serve(body(), answers);
    let mut seen = Vec::new();
    let result = fetch(&url, &target, &sha(&body()), &mut |done, total| {
        assert!(total.is_none_or(|t| done <= t));
        seen.push(done);
    });
    let starts = starts.lock().unwrap().clone();
    (result, std::fs::read(&target).ok(), starts, seen, part.exists())
}

#[test]
fn a_plain_download_arrives_and_reports_progress() {
    let (result, file, starts, seen, part) = run(vec![Answer::Full], &[]);
    result.unwrap();
    assert_eq!(file.unwrap(), body());
    assert_eq!(starts, [0]);
    assert_eq!(*seen.last().unwrap(), 300_000);
    assert!(seen.is_sorted() && !part);
}

#[test]
fn broken_connections_are_resumed_where_they_broke() {
    let (result, file, starts, ..) = run(vec![Answer::Break(100_000), Answer::Break(50_000), Answer::Full], &[]);
    result.unwrap();
    assert_eq!(file.unwrap(), body());
    assert_eq!(starts, [0, 100_000, 150_000]);
}

#[test]
fn a_later_run_resumes_what_an_earlier_one_left() {
    let (result, file, starts, ..) = run(vec![Answer::Full], &body()[..200_000]);
    result.unwrap();
    assert_eq!((file.unwrap(), starts), (body(), vec![200_000]));
    // The earlier run died between the last byte and the renaming.
    let (result, file, starts, ..) = run(vec![Answer::Full], &body());
    result.unwrap();
    assert_eq!((file.unwrap(), starts), (body(), vec![300_000]));
}

#[test]
fn servers_without_ranges_or_with_wrong_ones_start_over() {
    let (result, file, starts, ..) = run(vec![Answer::Break(100_000), Answer::NoRange], &[]);
    result.unwrap();
    assert_eq!((file.unwrap(), starts), (body(), vec![0, 100_000]));
    let (result, file, starts, ..) = run(vec![Answer::Break(100_000), Answer::WrongRange, Answer::Full], &[]);
    result.unwrap();
    assert_eq!((file.unwrap(), starts), (body(), vec![0, 100_000, 0]));
    // What lies there is longer than the file.
    let (result, file, ..) = run(vec![Answer::Full], &vec![7; 400_000]);
    result.unwrap();
    assert_eq!(file.unwrap(), body());
}

#[test]
fn corrupt_content_is_reported_and_removed() {
    let (result, file, _, _, part) = run(vec![Answer::Full], b"not the beginning of the file");
    let e = result.unwrap_err().to_string();
    assert!(e.contains("file.bin: expected SHA-256") && e.contains(&sha(&body())), "{e}");
    assert!(file.is_none() && !part);
}

#[test]
fn refusals_are_final_and_dead_connections_given_up_with_advice() {
    let (result, file, starts, ..) = run(vec![Answer::Status(404)], &[]);
    assert!(result.unwrap_err().to_string().ends_with("the server answered 404"));
    assert!(file.is_none());
    assert_eq!(starts.len(), 1);
    let (result, file, ..) = run(vec![Answer::Status(503), Answer::Full], &[]);
    result.unwrap();
    assert!(file.is_some());
    let (result, _, starts, _, part) = run(vec![Answer::Break(1000), Answer::Break(0)], &[]);
    let e = result.unwrap_err().to_string();
    assert!(e.contains("run again: the download continues where it stopped"), "{e}");
    assert_eq!(starts, [0, 1000, 1000, 1000, 1000]);
    assert!(part, "what had arrived is kept for the next run");
}

#[test]
fn a_source_is_downloaded_once_and_located() {
    let folder = tempfile::tempdir().unwrap();
    let (url, starts) = serve(body(), vec![Answer::Full]);
    let files: &'static [Remote] =
        vec![Remote { url: url.leak(), path: "set/data.bin", sha256: sha(&body()).leak() }].leak();
    let source = Source { name: "set", places: &[("set", "data.bin")], files };
    assert_eq!(locate(folder.path(), &source), None);
    for _ in 0..2 {
        let path = download(folder.path(), &source, &mut |_, _| {}).unwrap();
        assert_eq!(path, folder.path().join("set"));
    }
    assert_eq!(starts.lock().unwrap().len(), 1);
}

#[test]
fn published_places_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let cifar = source("cifar10").unwrap();
    std::fs::create_dir(folder.path().join("cifar-10-batches-bin")).unwrap();
    assert_eq!(locate(folder.path(), cifar), None, "an empty folder is not the data set");
    std::fs::write(folder.path().join("cifar-10-binary.tar.gz"), "x").unwrap();
    assert_eq!(locate(folder.path(), cifar), Some(folder.path().join("cifar-10-binary.tar.gz")));
    assert!(source("mnits").unwrap_err().to_string().ends_with("did you mean mnist?"));
    assert_eq!(locate(Path::new("/nonexistent"), cifar), None);
}
