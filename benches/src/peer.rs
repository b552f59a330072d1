//! The other side: a Python process that does work on request.
//!
//! One JSON object per line each way. `{"prepare": name, "arguments": {..}, "threads": n}` makes the inputs and is answered by
//! `{"package": "torch 2.11.0"}`; `{"calls": n, "watched": false}` does the prepared work `n` times and is answered by
//! `{"seconds": [..], "value": x}`, the time of each call and the number that the last one returned, with `"memory_mb": y` (or
//! null) where it is watched. `{"error": "..."}` answers a request that failed. The process ends when its input does, and is ended when it does not answer.

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long an answer may take; the slowest honest one takes seconds.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running peer.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// `None` once it is closed, which tells the process to end.
    requests: Option<ChildStdin>,
    /// Lines of its standard output, from a thread that reads them.
    answers: Receiver<std::io::Result<String>>,
    patience: Duration,
    threads: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Request<'a> {
    Prepare { prepare: &'a str, arguments: &'a Value, threads: usize },
    Calls { calls: usize, watched: bool },
}

#[derive(Deserialize)]
struct Prepared {
    package: String,
}

/// The answer to a request for calls.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Called {
    /// Seconds of each call.
    pub seconds: Vec<f64>,
    /// What the last call returned.
    pub value: f64,
    /// MB (1e6 bytes) by which the resident memory rose meanwhile, where it was watched and the system tells.
    #[serde(default)]
    pub memory_mb: Option<f64>,
}

impl Peer {
    /// Starts a process that speaks the protocol and works with `threads` threads. Its standard error is ours.
    ///
    /// # Errors
    /// A command that cannot be started.
    pub fn start(command: &mut Command, threads: usize) -> Result<Self> {
        let named = || format!("starting the peer, {}", command.get_program().to_string_lossy());
        let name = named();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context(name)?;
        let requests = child.stdin.take();
        let output = child.stdout.take().context("the peer has no standard output")?;
        let (lines, answers) = mpsc::channel();
        std::thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| lines.send(line)));
        Ok(Self { child, requests, answers, patience: PATIENCE, threads })
    }

    /// Makes the inputs of a piece of work; returns the package that does it, with its version.
    ///
    /// # Errors
    /// Whatever the peer reports, its death, or an answer outside the protocol.
    pub fn prepare(&mut self, work: &str, arguments: &Value) -> Result<String> {
        let request = Request::Prepare { prepare: work, arguments, threads: self.threads };
        let answer: Prepared = self.ask(&request).with_context(|| format!("preparing {work}"))?;
        Ok(answer.package)
    }

    /// Does the prepared work `calls` times.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), and times that are not `calls` positive numbers.
    pub fn call(&mut self, calls: usize) -> Result<Called> {
        self.do_work(calls, false)
    }

    /// Does it once, with its memory.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn watched_call(&mut self) -> Result<Called> {
        self.do_work(1, true)
    }

    fn do_work(&mut self, calls: usize, watched: bool) -> Result<Called> {
        let answer: Called = self.ask(&Request::Calls { calls, watched })?;
        if answer.seconds.len() != calls || !answer.seconds.iter().all(|s| s.is_finite() && *s > 0.0) {
            bail!("the peer was asked for {calls} positive times and gave {:?}", answer.seconds);
        }
        Ok(answer)
    }

    fn ask<A: DeserializeOwned>(&mut self, request: &Request) -> Result<A> {
        let requests = self.requests.as_mut().context("the peer has been closed")?;
        let line = serde_json::to_string(request)?;
        // A dead peer shows as an error here or as the end of its answers below.
        let sent = writeln!(requests, "{line}").and_then(|()| requests.flush());
        let answer = match self.answers.recv_timeout(self.patience) {
            Ok(line) if sent.is_ok() => line.context("reading the peer's answer")?,
            Err(RecvTimeoutError::Timeout) => {
                self.requests = None;
                self.child.kill().context("stopping the peer")?;
                bail!("the peer gave no answer in {} s and was stopped", self.patience.as_secs_f64());
            }
            _ => {
                self.requests = None;
                bail!("the peer ended in the middle of its work ({}); its messages are above", self.child.wait()?);
            }
        };
        let answer: Value =
            serde_json::from_str(&answer).map_err(|_| anyhow!("the peer answered with no JSON: {answer}"))?;
        if let Some(error) = answer.get("error") {
            bail!("the peer reports: {}", error.as_str().unwrap_or("no reason"));
        }
        A::deserialize(&answer).map_err(|e| anyhow!("the peer's answer {answer} is not what was asked for: {e}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.requests = None;
        // Nothing is left to tell the user if waiting fails.
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use serde_json::json;

    /// A peer that answers each request with the next of these lines, then ends with status 3.
    fn answering(lines: &[&str]) -> Peer {
        let script = lines.iter().map(|l| format!("read -r request; echo '{l}'; ")).collect::<String>()
            + "read -r request; exit 3";
        Peer::start(Command::new("sh").args(["-c", &script]), 2).unwrap()
    }

    fn error(result: Result<impl std::fmt::Debug>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn answers_are_read() {
        let mut peer = answering(&[r#"{"package": "torch 2.11.0"}"#, r#"{"seconds": [0.5, 0.25], "value": 7}"#]);
        assert_eq!(peer.prepare("loss", &json!({"n": 4})).unwrap(), "torch 2.11.0");
        assert_eq!(peer.call(2).unwrap(), Called { seconds: vec![0.5, 0.25], value: 7.0, memory_mb: None });
    }

    #[test]
    fn the_request_is_one_line_of_json() {
        let echo = r#"read -r request; printf '{"package": "%s"}\n' "$(echo "$request" | tr -d '"')""#;
        let mut peer = Peer::start(Command::new("sh").args(["-c", echo]), 2).unwrap();
        assert_eq!(peer.prepare("loss", &json!({"n": 4})).unwrap(), "{prepare:loss,arguments:{n:4},threads:2}");
    }

    #[test]
    fn a_peer_that_dies_says_so_and_stays_dead() {
        let mut peer = answering(&[]);
        let first = error(peer.prepare("loss", &json!({})));
        assert!(
            first.starts_with("preparing loss: the peer ended in the middle of its work (exit status: 3)"),
            "{first}"
        );
        assert_eq!(error(peer.call(1)), "the peer has been closed");
    }

    #[test]
    fn a_peer_that_hangs_is_stopped() {
        // `exec`, so that no child of the shell outlives it.
        let mut peer = Peer::start(Command::new("sh").args(["-c", "read -r request; exec sleep 600"]), 1).unwrap();
        peer.patience = Duration::from_millis(50);
        assert_eq!(error(peer.call(1)), "the peer gave no answer in 0.05 s and was stopped");
        assert_eq!(error(peer.call(1)), "the peer has been closed");
        assert!(!peer.child.wait().unwrap().success());
    }

    #[test]
    fn nonsense_and_failures_are_told_apart() {
        let mut peer =
            answering(&["Traceback", "{}", r#"{"seconds": [0.5], "value": 1}"#, r#"{"error": "no module lightly"}"#]);
        assert_eq!(error(peer.call(1)), "the peer answered with no JSON: Traceback");
        assert_eq!(error(peer.call(1)), "the peer's answer {} is not what was asked for: missing field `seconds`");
        assert_eq!(error(peer.call(2)), "the peer was asked for 2 positive times and gave [0.5]");
        assert_eq!(error(peer.call(1)), "the peer reports: no module lightly");
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let e = error(Peer::start(&mut Command::new("/no/such/python"), 1));
        assert!(e.starts_with("starting the peer, /no/such/python: "), "{e}");
    }
}
