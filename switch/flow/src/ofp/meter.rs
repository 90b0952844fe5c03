//! Meters: what `meter:N` measures and limits (`ovs-ofctl(8)`, "Meter Syntax").

use super::error::ParseError;
use super::token::{Syntax, Token, Tokens};
use super::value::number_up_to;
use std::fmt::Write;

/// What a meter counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MeterUnit {
    /// `kbps`: kilobits a second.
    Kbps,
    /// `pktps`: packets a second.
    Pktps,
}

/// A meter with its one `drop` band, for `add-meter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeterSpec {
    /// 1 to 4294901760.
    pub id: u32,
    /// Unit of rate and burst.
    pub unit: MeterUnit,
    /// `rate` of the band: kilobits or packets a second.
    pub rate: u32,
    /// `burst_size` of the band, with the `burst` flag: kilobits or packets. Without one it is the rate's worth of a second.
    pub burst: Option<u32>,
    /// `stats` flag: kept for printing; statistics are always counted.
    pub stats: bool,
}

/// Largest number of a meter (OpenFlow `OFPM13_MAX`).
const METER_MAX: u128 = 0xffff_0000;

impl MeterUnit {
    /// As the flag is called.
    pub fn name(self) -> &'static str {
        match self {
            MeterUnit::Kbps => "kbps",
            MeterUnit::Pktps => "pktps",
        }
    }
}

/// Parses what `add-meter` takes: `meter=1,kbps,burst,stats,bands=type=drop rate=1000 burst_size=200`.
///
/// As in OVS, `kbps` is meant when no unit stands there, and a `burst_size` counts with and without `burst`.
pub fn parse_meter(text: &str) -> Result<MeterSpec, ParseError> {
    let mut tokens = Tokens::new(text, 0, Syntax::Match);
    let mut id = None;
    let (mut kbps, mut pktps, mut stats) = (false, false, false);
    let (mut band, mut rate, mut burst_size) = (false, None, None);
    while let Some(token) = tokens.next()? {
        let upto = |max: u128| number_up_to(token.value.unwrap_or(""), max).map_err(|e| token.error(e));
        match (token.key, token.value) {
            ("meter", Some(_)) if !band => id = Some(meter_id(&token)?),
            ("kbps", None) if !band => kbps = true,
            ("pktps", None) if !band => pktps = true,
            ("stats", None) if !band => stats = true,
            // Says that a burst_size follows; OVS does not mind when none does.
            ("burst", None) if !band => {}
            // `bands=type=drop`, and `bands=` with the type behind a blank, as dump-meters prints it.
            ("bands" | "band", Some("" | "type=drop")) if !band => band = token.value != Some(""),
            ("type", Some("drop")) if !band => band = true,
            ("bands" | "band" | "type", Some(_)) => {
                return Err(token.error("one band, bands=type=drop rate=N [burst_size=N]"));
            }
            ("rate", Some(_)) if band => {
                rate = Some(upto(u32::MAX.into())? as u32).filter(|rate| *rate > 0);
                if rate.is_none() {
                    return Err(token.error("a number from 1 to 4294967295"));
                }
            }
            ("burst_size", Some(_)) if band => burst_size = Some(upto(u32::MAX.into())? as u32),
            _ if band => return Err(token.error("rate=N or burst_size=N")),
            _ => {
                return Err(token
                    .error("meter=N, kbps, pktps, burst, stats or bands=type=drop rate=N [burst_size=N]"));
            }
        }
        if kbps && pktps {
            return Err(token.error("kbps or pktps, not both"));
        }
    }
    let missing = |what: &str| ParseError::new("", text.len(), what);
    Ok(MeterSpec {
        id: id.ok_or_else(|| missing("meter=N, from 1 to 4294901760"))?,
        unit: if pktps { MeterUnit::Pktps } else { MeterUnit::Kbps },
        rate: rate.ok_or_else(|| missing("bands=type=drop rate=N [burst_size=N]"))?,
        burst: burst_size.filter(|size| *size > 0),
        stats,
    })
}

fn meter_id(token: &Token<'_>) -> Result<u32, ParseError> {
    let value = if token.key == "meter" { token.value.unwrap_or("") } else { token.text };
    match number_up_to(value, METER_MAX) {
        Ok(id) if id > 0 => Ok(id as u32),
        _ => Err(token.error("meter=N, from 1 to 4294901760")),
    }
}

/// Parses what `del-meter`, `dump-meters` and `meter-stats` take: `meter=N`, `N`, or `all` or nothing for all meters,
/// which is `None`.
pub fn parse_meter_filter(text: &str) -> Result<Option<u32>, ParseError> {
    let mut tokens = Tokens::new(text, 0, Syntax::Match);
    let Some(token) = tokens.next()? else { return Ok(None) };
    let all = ["all", "meter=all"].iter().any(|all| all.eq_ignore_ascii_case(token.text));
    let id = if all { None } else { Some(meter_id(&token)?) };
    match tokens.next()? {
        Some(more) => Err(more.error("nothing behind the meter's number")),
        None => Ok(id),
    }
}

/// Prints a meter as `add-meter` takes it, in one line. [`parse_meter`] reads it.
pub fn format_meter(meter: &MeterSpec) -> String {
    let mut out = format!("meter={},{}", meter.id, meter.unit.name());
    out.push_str(if meter.burst.is_some() { ",burst" } else { "" });
    out.push_str(if meter.stats { ",stats" } else { "" });
    // A String takes all that is written to it.
    let _ = write!(out, ",bands=type=drop rate={}", meter.rate);
    if let Some(burst) = meter.burst {
        let _ = write!(out, " burst_size={burst}");
    }
    out
}
