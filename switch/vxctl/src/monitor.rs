//! `monitor`: packets as they come in, each with what becomes of it.

use super::commands::Session;
use super::{Failure, out, print, stream};
use api::MonitoredPacket;
use std::process::ExitCode;

/// `monitor [PORT] [FILTER] [-c N] [--seconds S]`; without a limit until it is interrupted.
pub fn run(session: &Session<'_>, words: &[String]) -> Result<ExitCode, Failure> {
    let (arguments, mut query) = stream::options(words)?;
    query.push(stream::joined("of", &arguments[1..]));
    let mut rest = Vec::new();
    let end =
        session.client.stream(&format!("/v1/monitor?{}", query.join("&")), api::CAPTURE_END, |bytes| {
            rest.extend_from_slice(bytes);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if session.globals.json {
                    out(&String::from_utf8_lossy(&line))?;
                } else if let Ok(packet) = serde_json::from_slice::<MonitoredPacket>(&line) {
                    out(&print::monitored(&packet))?;
                }
            }
            Ok(())
        })?;
    match end {
        Some(reason) => Err(Failure::Refused(reason)),
        None => Ok(ExitCode::SUCCESS),
    }
}
