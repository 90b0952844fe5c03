//! `capture`: packets of a port, or those that rules send to `CONTROLLER`, to a pcap file.

use super::Failure;
use super::client::escape;
use super::commands::Session;
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "'capture': expected capture PORT|controller:BRIDGE FILE|- [--count N] [--seconds S]";

/// `capture PORT FILE [--count N] [--seconds S]`; without a limit until it is interrupted.
pub fn run(session: &Session<'_>, words: &[String]) -> Result<ExitCode, Failure> {
    let (mut arguments, mut query) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = |words: &mut std::slice::Iter<'_, String>| words.next().cloned().unwrap_or_default();
        match word.as_str() {
            "--count" => match value(&mut words).parse::<u64>() {
                Ok(count) if count > 0 => query.push(format!("count={count}")),
                _ => return Failure::usage("--count: expected a number from 1"),
            },
            "--seconds" => match value(&mut words).parse::<f64>() {
                Ok(seconds) if seconds > 0.0 && seconds.is_finite() => {
                    query.push(format!("seconds={seconds}"));
                }
                _ => return Failure::usage("--seconds: expected a number above 0"),
            },
            word => arguments.push(word),
        }
    }
    let ["capture", what, file] = arguments.as_slice() else { return Failure::usage(USAGE) };
    let path = match what.strip_prefix("controller:") {
        Some(bridge) => format!("/v1/capture/controller/{}?{}", escape(bridge), query.join("&")),
        None => format!("/v1/capture/port/{}?{}", escape(what), query.join("&")),
    };
    let fails = |error| Failure::File((*file).to_owned(), error);
    // Made when the daemon has agreed.
    let mut out: Option<Box<dyn Write>> = None;
    let end = session.client.stream(&path, api::CAPTURE_END, |piece| {
        if out.is_none() {
            out = Some(if *file == "-" {
                Box::new(std::io::stdout())
            } else {
                Box::new(std::fs::File::create(file).map_err(fails)?)
            });
        }
        let Some(out) = &mut out else { return Ok(()) };
        // Flushed, for who reads along.
        out.write_all(piece).and_then(|()| out.flush()).map_err(fails)
    })?;
    match end {
        Some(reason) => Err(Failure::Refused(reason)),
        None => Ok(ExitCode::SUCCESS),
    }
}
