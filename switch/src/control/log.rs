//! The event log: what happens, on stderr or in the journal, and as a stream for who asks.
//!
//! Everything goes through `tracing`, by level:
//!
//! | level | what |
//! |---|---|
//! | `error` | something that was configured does not work: a device, a thread, a file |
//! | `warn` | somebody should look: limits that are reached, conflicts, what had to be refused |
//! | `info` | what changes: configuration and by whom, links, neighbours, tunnels, start and end |
//! | `debug`, `trace` | for who looks for a fault |
//!
//! One kind of message comes [`BURST`] times in a row and then once a second; what is left out is counted and said.
//! Writing is another thread's work, and a reader that does not keep up loses lines rather than time.

use api::Event;
use std::collections::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::broadcast;
use tracing::Level;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Messages of one kind that come without a pause.
pub const BURST: f64 = 10.0;
/// Events that a slow reader of the stream may be behind.
const BEHIND: usize = 1024;

/// Where the log goes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines on stderr, with colours on a terminal
    Text,
    /// A JSON object a line on stderr
    Json,
    /// The systemd journal
    Journald,
}

/// The stream of events.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Arc<Event>>);

impl Events {
    /// Everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.subscribe()
    }
}

/// Starts the log. What is logged is written as long as the guard lives.
///
/// # Errors
/// What is wrong with `filter`, or that there is no journal.
pub fn start(format: Format, filter: &str) -> Result<(Events, WorkerGuard), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("--log-level {filter}: {error}; expected a level, as in info,vxswitch::port=debug")
    })?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let events = Events(broadcast::channel(BEHIND).0);
    let text = (format == Format::Text).then(|| {
        tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(writer.clone())
    });
    let json = (format == Format::Json)
        .then(|| tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer));
    let journal = match format {
        Format::Journald => Some(
            tracing_journald::layer()
                .map_err(|error| format!("--log journald: {error}; expected a running systemd-journald"))?,
        ),
        _ => None,
    };
    let base = filter.max_level_hint().and_then(LevelFilter::into_level).unwrap_or(Level::INFO);
    let (filter, handle) = reload::Layer::new(filter);
    // A process has one log.
    let _ = LEVELS.set(Mutex::new(Levels { format, handle, base: base.into(), modules: BTreeMap::new() }));
    tracing_subscriber::registry()
        .with(filter)
        .with(Limit)
        .with(text)
        .with(json)
        .with(journal)
        .with(Stream(events.clone()))
        .init();
    Ok((events, guard))
}

/// Modules whose level can be set, as `vlog/set` names them: targets of messages without `vxswitch::`.
const MODULES: [&str; 11] =
    ["bfd", "bridge", "config", "control", "daemon", "evpn", "kernel", "log", "port", "slowpath", "thread"];

/// The levels that were asked for while the switch runs.
struct Levels {
    format: Format,
    handle: reload::Handle<EnvFilter, Registry>,
    base: LevelFilter,
    modules: BTreeMap<&'static str, LevelFilter>,
}

static LEVELS: OnceLock<Mutex<Levels>> = OnceLock::new();

/// A level by Open vSwitch's name.
fn level(word: &str) -> Option<LevelFilter> {
    Some(match word.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "emer" | "err" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "dbg" => LevelFilter::DEBUG,
        _ => return None,
    })
}

fn name_of(level: LevelFilter) -> &'static str {
    match level.into_level() {
        None => "OFF",
        Some(Level::ERROR) => "ERR",
        Some(Level::WARN) => "WARN",
        Some(Level::INFO) => "INFO",
        Some(Level::DEBUG | Level::TRACE) => "DBG",
    }
}

/// `vlog/list`: the level of each module. The log is one: it goes to stderr or the journal.
pub fn levels() -> String {
    let mut text = format!("{:17}console    syslog    file\n{:17}-------    ------    ------\n", "", "");
    if let Some(levels) = LEVELS.get() {
        let levels = levels.lock().unwrap_or_else(PoisonError::into_inner);
        let unlimited = unlimited();
        for module in MODULES {
            let level = name_of(levels.modules.get(module).copied().unwrap_or(levels.base));
            let unlimited = if unlimited.contains(module) { "    (rate limiting disabled)" } else { "" };
            text.push_str(&format!("{module:<16}  {level:>4}        OFF        OFF{unlimited}\n"));
        }
    }
    text
}

/// `vlog/list-pattern`: how a line of the log looks, in the words of `vlog/set`'s patterns.
pub fn patterns() -> String {
    let format = LEVELS.get().map(|levels| levels.lock().unwrap_or_else(PoisonError::into_inner).format);
    let console = match format {
        Some(Format::Json) => "json",
        Some(Format::Journald) => "journald",
        Some(Format::Text) | None => "%D{%Y-%m-%dT%H:%M:%S.######Z} %5p %c: %m",
    };
    format!(
        "         prefix                            format\n         ------                            ------\n\
         CONSOLE  none                              {console}\n"
    )
}

/// Modules whose messages all come, however many there are.
fn unlimited() -> MutexGuard<'static, BTreeSet<&'static str>> {
    static UNLIMITED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    UNLIMITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `vlog/enable-rate-limit` and `vlog/disable-rate-limit`: of these modules, or of all where none is named.
///
/// # Errors
/// A word that is no module.
pub fn limit_rates(words: &[&str], limit: bool) -> Result<(), String> {
    let mut modules = Vec::new();
    for word in words.iter().filter(|word| !word.eq_ignore_ascii_case("any")) {
        let known = MODULES.iter().find(|module| word.eq_ignore_ascii_case(module));
        modules.push(*known.ok_or("unknown module")?);
    }
    if modules.len() < words.len() || words.is_empty() {
        modules = MODULES.to_vec();
    }
    let mut unlimited = unlimited();
    for module in modules {
        if limit {
            unlimited.remove(module)
        } else {
            unlimited.insert(module)
        };
    }
    Ok(())
}

/// What a word of `vlog/set` asks for: `[MODULE][:DESTINATION][:LEVEL]`, in any order. `None`: another destination than
/// the log's.
fn asked(spec: &str) -> Result<Option<(Option<&'static str>, LevelFilter)>, String> {
    // As in Open vSwitch, a word without a level asks for all.
    let (mut module, mut wanted, mut elsewhere) = (None, LevelFilter::DEBUG, false);
    for word in spec.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        let known = MODULES.iter().find(|module| word.eq_ignore_ascii_case(module));
        match (level(word), word.to_ascii_lowercase().as_str()) {
            (Some(level), _) => wanted = level,
            (_, "any" | "console") => {}
            (_, "syslog" | "file") => elsewhere = true,
            _ => module = Some(*known.ok_or_else(|| format!("no destination, level, or module \"{word}\""))?),
        }
    }
    Ok((!elsewhere).then_some((module, wanted)))
}

/// `vlog/set`: changes what is logged. A level without a module is that of all.
///
/// # Errors
/// A word that is no module, destination or level.
pub fn set_levels(specs: &[&str]) -> Result<(), String> {
    let asked: Vec<_> = specs.iter().map(|spec| asked(spec)).collect::<Result<_, _>>()?;
    let Some(levels) = LEVELS.get() else { return Ok(()) };
    let mut levels = levels.lock().unwrap_or_else(PoisonError::into_inner);
    for (module, level) in asked.into_iter().flatten() {
        if let Some(module) = module {
            levels.modules.insert(module, level);
        } else {
            (levels.base, levels.modules) = (level, BTreeMap::new());
        }
    }
    let each = levels.modules.iter().map(|(module, level)| format!(",vxswitch::{module}={level}"));
    let filter = each.fold(levels.base.to_string(), |all, one| all + &one);
    let filter = EnvFilter::try_new(&filter).map_err(|error| error.to_string())?;
    levels.handle.reload(filter).map_err(|error| error.to_string())
}

/// A kind of message: how many may come now, since when, and how many did not.
struct Kind {
    tokens: f64,
    at: Instant,
    left_out: u64,
    message: String,
}

fn kinds() -> &'static Mutex<HashMap<Identifier, Kind>> {
    static KINDS: OnceLock<Mutex<HashMap<Identifier, Kind>>> = OnceLock::new();
    KINDS.get_or_init(Mutex::default)
}

/// Takes one message's place; false when it is one too many.
fn admit(kind: &mut Kind, now: Instant) -> bool {
    let passed = now.saturating_duration_since(kind.at).as_secs_f64();
    kind.tokens = (kind.tokens + passed).min(BURST);
    kind.at = now;
    if kind.tokens < 1.0 {
        kind.left_out += 1;
        return false;
    }
    kind.tokens -= 1.0;
    true
}

/// Says how many messages were left out since the last time. To be called now and then.
pub fn say_what_was_left_out() {
    let left_out: Vec<(String, u64)> = {
        let mut kinds = kinds().lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = kinds
            .values_mut()
            .filter(|kind| kind.left_out > 0 && kind.tokens + kind.at.elapsed().as_secs_f64() >= 1.0);
        kinds.map(|kind| (kind.message.clone(), std::mem::take(&mut kind.left_out))).collect()
    };
    for (message, count) in left_out {
        tracing::warn!(target: "vxswitch::log", %message, count, "messages were left out");
    }
}

/// Lets messages of one kind through only so fast.
struct Limit;

impl<S: tracing::Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &tracing::Event<'_>, _: Context<'_, S>) -> bool {
        let module = event.metadata().target().split("::").nth(1);
        if module.is_some_and(|module| unlimited().contains(module)) {
            return true;
        }
        let now = Instant::now();
        let mut kinds = kinds().lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(event.metadata().callsite()).or_insert_with(|| {
            let mut fields = Fields::default();
            event.record(&mut fields);
            Kind { tokens: BURST, at: now, left_out: 0, message: fields.message }
        });
        admit(kind, now)
    }
}

/// Hands events to who listens.
struct Stream(Events);

impl<S: tracing::Subscriber> Layer<S> for Stream {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if self.0.0.receiver_count() == 0 {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        // Without a time it is still an event.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let event = Event {
            time,
            level: event.metadata().level().as_str().to_lowercase(),
            target: event.metadata().target().to_owned(),
            message: fields.message,
            fields: fields.others,
        };
        // Somebody may have stopped listening meanwhile.
        let _ = self.0.0.send(Arc::new(event));
    }
}

/// An event's fields as text.
#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<String, String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.insert(field.name().to_owned(), text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others.insert(field.name().to_owned(), value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_vlog_set_takes() {
        for (spec, expected) in [
            ("dbg", Ok(Some((None, LevelFilter::DEBUG)))),
            ("port:warn", Ok(Some((Some("port"), LevelFilter::WARN)))),
            ("console:BFD:off", Ok(Some((Some("bfd"), LevelFilter::OFF)))),
            ("port", Ok(Some((Some("port"), LevelFilter::DEBUG)))),
            ("any:syslog:info", Ok(None)),
            ("nonsense:info", Err("no destination, level, or module \"nonsense\"".to_owned())),
        ] {
            assert_eq!(asked(spec), expected, "{spec}");
        }
    }

    #[test]
    fn a_flood_of_one_message_is_bounded() {
        let start = Instant::now();
        let mut kind = Kind { tokens: BURST, at: start, left_out: 0, message: String::new() };
        let passed = (0..1000).filter(|_| admit(&mut kind, start)).count();
        assert_eq!((passed, kind.left_out), (10, 990));
        let later = (1..=5).filter(|s| admit(&mut kind, start + Duration::from_secs(*s))).count();
        assert_eq!(later, 5, "one a second");
    }
}
