//! Whether zebra runs, and whether it is the same one as before. Its rows in the kernel outlive it, so somebody has to see
//! that it has gone.

use crate::netlink::{Error, NETNS_DIR};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two looks at all processes, while there is no zebra.
const EVERY: Duration = Duration::from_millis(500);

/// A process: its id and the time it started at, which tells it from a later one of the same id.
type Process = (u32, u64);

/// What became of zebra since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing.
    Same,
    /// It is there, and was not before.
    New,
    /// It has gone.
    Gone,
    /// Another one is there.
    Other,
}

/// Looks for zebra in one network namespace.
#[derive(Debug)]
pub(crate) struct Zebra {
    /// Device and inode of the namespace.
    netns: (u64, u64),
    found: Option<Process>,
    looked: Option<Instant>,
}

impl Zebra {
    /// In a named namespace, or in ours.
    pub(crate) fn of(netns: Option<&str>) -> Result<Zebra, Error> {
        let path =
            netns.map_or_else(|| "/proc/self/ns/net".into(), |name| PathBuf::from(NETNS_DIR).join(name));
        let meta = fs::metadata(path)
            .map_err(|error| Error::Netns { name: netns.unwrap_or_default().to_owned(), error })?;
        Ok(Zebra { netns: (meta.dev(), meta.ino()), found: None, looked: None })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.found.map(|(pid, _)| pid)
    }

    /// Looks.
    pub(crate) fn look(&mut self, now: Instant) -> Seen {
        if let Some(known @ (pid, _)) = self.found
            && zebra(pid) == Some(known)
        {
            return Seen::Same;
        }
        let before = self.found.take();
        if before.is_none() && self.looked.is_some_and(|then| now.saturating_duration_since(then) < EVERY) {
            return Seen::Same;
        }
        self.looked = Some(now);
        self.found = self.search();
        match (before, self.found) {
            (None, None) => Seen::Same,
            (None, Some(_)) => Seen::New,
            (Some(_), None) => Seen::Gone,
            (Some(_), Some(_)) => Seen::Other,
        }
    }

    fn search(&self) -> Option<Process> {
        let pids =
            fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(zebra).find(|(pid, _)| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.netns)
        })
    }
}

/// The process of this id, if it is a zebra that lives.
fn zebra(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses, and may contain some.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // proc(5): state is field 3, start time is field 22.
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (name == "zebra" && state != "Z" && state != "X").then_some((pid, started))
}
