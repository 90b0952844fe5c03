//! `ovs-ofctl snoop`: shows what a bridge and its controllers say to each other.

use super::connection::{PATIENCE, Peers};
use openflow::{Dialect, Hello, Message, Version, messages};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// Bytes that the other side may send before it is one that does not speak OpenFlow.
const GREETING: usize = 4096;

/// Serves one who snoops, to the end. Messages of another version than it speaks are left out: `ovs-ofctl` takes them for
/// errors.
pub(super) async fn serve(mut stream: UnixStream, peers: &Peers) -> io::Result<()> {
    // Nothing of what is said from here on is missed.
    let mut shown = peers.snooped.subscribe();
    let all = Version::all();
    let hello = Hello { versions: all.iter().fold(0, |bits, version| bits | 1 << version.number()) };
    let newest = Dialect::new(all[all.len() - 1]);
    let greeting = openflow::encode(Message::Hello(hello.clone()), 1, newest, Vec::new());
    stream.write_all(&greeting.unwrap_or_default()).await?;
    let version = timeout(PATIENCE, greeted(&mut stream, hello.versions)).await??;
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            message = shown.recv() => match message {
                Ok(message) if message[0] == version => {
                    timeout(PATIENCE, stream.write_all(&message)).await??;
                }
                // What it was too slow for it has missed.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            read = stream.read(&mut ignored) => if read? == 0 {
                return Ok(());
            },
        }
    }
}

/// Reads the other side's greeting: the number of the version that both speak.
async fn greeted(stream: &mut UnixStream, ours: u32) -> io::Result<u8> {
    let mut bytes = Vec::new();
    loop {
        if let Some(message) = messages(&bytes).next() {
            let spoken = Version::from_number(message[0]).unwrap_or(Version::V10);
            let decoded = openflow::decode(message, Dialect::new(spoken)).map(|decoded| decoded.message);
            let versions = if let Ok(Message::Hello(hello)) = decoded { hello.versions } else { 0 };
            let agreed = Version::negotiate(ours, message[0], versions);
            return agreed.map(Version::number).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        if bytes.len() > GREETING || stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
