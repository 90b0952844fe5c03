//! Requests to the kernel over rtnetlink, and the noise that says that something changed.

pub use netlink_packet_route as packet;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

/// Where `ip netns` keeps named network namespaces.
pub(crate) const NETNS_DIR: &str = "/var/run/netns";
/// Bytes of answers read at once: the kernel fills up to 32 KiB a part of a dump.
const ANSWER: usize = 64 * 1024;
/// Bytes of events that may wait; more are reported as lost, and everything is read again.
const EVENTS: usize = 1024 * 1024;

/// What went wrong with the shadow devices.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network namespace cannot be entered.
    #[error("network namespace {name}: {error}; make it with ip netns add {name}")]
    Netns {
        /// Its name.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// No socket.
    #[error("netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// A request was refused.
    #[error("{what}: {error}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The kernel's answer cannot be read.
    #[error("{what}: the kernel's answer is not understood: {error}")]
    Answer {
        /// What was asked for.
        what: String,
        /// Why not.
        error: String,
    },
}

/// A socket for requests.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A socket that tells of changes.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    lost: u64,
}

/// Both sockets, in a network namespace if one is named. A socket stays in the namespace it was made in.
///
/// # Errors
/// No such namespace, no permission.
pub fn open(netns: Option<&str>, groups: &'static [u32]) -> Result<(Netlink, Events), Error> {
    let make = move || -> Result<(Netlink, Events), Error> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Socket)?;
        socket.bind_auto().map_err(Error::Socket)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(Error::Socket)?;
        let mut events = Socket::new(NETLINK_ROUTE).map_err(Error::Socket)?;
        events.bind_auto().map_err(Error::Socket)?;
        events.set_rx_buf_sz(EVENTS).map_err(Error::Socket)?;
        events.set_non_blocking(true).map_err(Error::Socket)?;
        for group in groups {
            events.add_membership(*group).map_err(Error::Socket)?;
        }
        Ok((Netlink { socket, sequence: 0 }, Events { socket: events, lost: 0 }))
    };
    let Some(netns) = netns else { return make() };
    let name = netns.to_owned();
    // A thread of its own: the namespace is a thread's, and this one keeps its own.
    let thread = std::thread::spawn(move || {
        let enter = || -> io::Result<()> {
            let file = std::fs::File::open(PathBuf::from(NETNS_DIR).join(&name))?;
            Ok(nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?)
        };
        enter().map_err(|error| Error::Netns { name: name.clone(), error })?;
        make()
    });
    thread.join().unwrap_or_else(|_| Err(Error::Socket(io::Error::other("the thread panicked"))))
}

impl Netlink {
    /// Lets the kernel look at what a dump is asked for: it sends rows of one device, of one table, and not all.
    ///
    /// # Errors
    /// A kernel before 4.20.
    pub fn set_strict(&mut self) -> Result<(), Error> {
        self.socket.set_netlink_get_strict_chk(true).map_err(Error::Socket)
    }

    /// Asks for a change, and waits for the answer.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn request(&mut self, message: RouteNetlinkMessage, flags: u16, what: &str) -> Result<(), Error> {
        self.send(message, flags | NLM_F_ACK, what)?;
        self.answers(what, |_| ())
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn get(
        &mut self,
        message: RouteNetlinkMessage,
        what: &str,
        each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), Error> {
        self.send(message, NLM_F_ACK, what)?;
        self.answers(what, each)
    }

    /// Reads a table: all messages of it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        what: &str,
        each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), Error> {
        self.send(message, NLM_F_DUMP, what)?;
        self.answers(what, each)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16, what: &str) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket
            .send(&bytes, 0)
            .map_err(|error| Error::Refused { what: what.to_owned(), error })
            .map(|_| ())
    }

    fn answers(&mut self, what: &str, mut each: impl FnMut(RouteNetlinkMessage)) -> Result<(), Error> {
        let refused = |error| Error::Refused { what: what.to_owned(), error };
        loop {
            let mut bytes = Vec::with_capacity(ANSWER);
            self.socket.recv(&mut bytes, 0).map_err(refused)?;
            let mut rest = &bytes[..];
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let length = length.clamp(16, rest.len());
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..length])
                    .map_err(|error| Error::Answer { what: what.to_owned(), error: error.to_string() })?;
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
                // What is left of an answer that was given up.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(()),
                            Some(_) => Err(refused(error.to_io())),
                        };
                    }
                    NetlinkPayload::InnerMessage(message) => each(message),
                    _ => {}
                }
            }
        }
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Events {
    /// How often there was no room for events.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether anything changed since the last call. Events that were lost (`ENOBUFS`) count as a change: their text
    /// is not looked at anyway.
    pub fn any(&mut self) -> bool {
        let mut any = false;
        let mut bytes = Vec::with_capacity(ANSWER);
        loop {
            bytes.clear();
            match self.socket.recv(&mut bytes, 0) {
                Ok(_) => any = true,
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    self.lost += 1;
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return any,
            }
        }
    }
}
