//! `capture`: packets of a port, those that rules send to `CONTROLLER`, or those that are dropped, to a file.

use super::client::escape;
use super::commands::Session;
use super::{Failure, stream};
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "'capture': expected capture PORT|controller:BRIDGE|drops[:PORT|:REASON] FILE|- [FILTER] [--count N] [--seconds S]";

/// `capture PORT FILE [FILTER] [--count N] [--seconds S]`; without a limit until it is interrupted.
pub fn run(session: &Session<'_>, words: &[String]) -> Result<ExitCode, Failure> {
    let (arguments, mut query) = stream::options(words)?;
    let [_, what, file, filter @ ..] = arguments.as_slice() else { return Failure::usage(USAGE) };
    if !filter.is_empty() {
        query.push(stream::joined("filter", filter));
    }
    let path = match what.split_once(':').unwrap_or((what, "")) {
        ("controller", bridge) => format!("controller/{}", escape(bridge)),
        ("drops", of) => {
            query.push(format!("of={}", escape(of)));
            "drops".to_owned()
        }
        _ => format!("port/{}", escape(what)),
    };
    let path = format!("/v1/capture/{path}?{}", query.join("&"));
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
