//! Bundles of a connection: changes that wait until they are committed.

use super::requests::check;
use super::{Bridge, Change, Connection, Output};
use crate::{
    BundleAdd, BundleControl, BundleControlKind as Kind, Code, Dialect, Error, ErrorMessage, HEADER, Message,
    decode, encode, length, messages, xid,
};
use std::collections::BTreeMap;

/// Bundles that a connection may have open.
const MOST_BUNDLES: usize = 64;
/// Bytes of messages that a connection's bundles may hold.
const MOST_BYTES: usize = 1 << 30;

/// A bundle that is not committed yet.
#[derive(Debug)]
struct Bundle {
    flags: u16,
    closed: bool,
    /// The messages one behind the other: as bytes they take a tenth of what they take as changes.
    messages: Vec<u8>,
}

/// The change that a message of a bundle asks for.
fn change_of(message: &[u8], dialect: &Dialect) -> Result<Change, Error> {
    match decode(message, *dialect)?.message {
        Message::FlowMod(flow) => Ok(Change::Flow(flow)),
        Message::GroupMod(group) => Ok(Change::Group(group.into())),
        Message::PortMod(port) => Ok(Change::Port(port)),
        Message::PacketOut(packet) => Ok(Change::Packet(packet.into())),
        message => Err(Error::new(Code::OfpbfcMsgUnsup, format!("{} in a bundle", message.name()))),
    }
}

#[derive(Debug, Default)]
pub(super) struct Bundles {
    open: BTreeMap<u32, Bundle>,
    bytes: usize,
}

impl Bundles {
    fn open(&mut self, id: u32, flags: u16) -> Result<&mut Bundle, Error> {
        if self.open.len() >= MOST_BUNDLES {
            return Err(Error::new(Code::OfpbfcOutOfBundles, "too many bundles"));
        }
        let bundle = Bundle { flags, closed: false, messages: Vec::new() };
        Ok(self.open.entry(id).or_insert(bundle))
    }

    fn take(&mut self, id: u32) -> Result<Bundle, Error> {
        let bundle = self.open.remove(&id).ok_or_else(|| unknown(id))?;
        self.bytes -= bundle.messages.len();
        Ok(bundle)
    }
}

fn unknown(id: u32) -> Error {
    Error::new(Code::OfpbfcBadId, format!("there is no bundle {id}"))
}

impl Connection {
    pub(super) fn bundle_control(
        &mut self,
        control: BundleControl,
        _xid: u32,
        bridge: &mut dyn Bridge,
        output: &mut Output,
    ) -> Result<Message, Error> {
        let same = |bundle: &Bundle| {
            if bundle.flags == control.flags {
                return Ok(());
            }
            Err(Error::new(Code::OfpbfcBadFlags, format!("bundle {} has other flags", control.id)))
        };
        let kind = match control.kind {
            Kind::OpenRequest => {
                if self.bundles.take(control.id).is_ok() {
                    let why = format!("there is a bundle {}", control.id);
                    return Err(Error::new(Code::OfpbfcBadId, why));
                }
                self.bundles.open(control.id, control.flags)?;
                Kind::OpenReply
            }
            Kind::CloseRequest => {
                let bundle = self.bundles.open.get_mut(&control.id).ok_or_else(|| unknown(control.id))?;
                if bundle.closed {
                    self.bundles.take(control.id)?;
                    return Err(Error::new(Code::OfpbfcBundleClosed, "the bundle is closed already"));
                }
                same(bundle)?;
                bundle.closed = true;
                Kind::CloseReply
            }
            Kind::CommitRequest => {
                let bundle = self.bundles.take(control.id)?;
                same(&bundle)?;
                self.commit(&bundle, bridge, output)?;
                Kind::CommitReply
            }
            Kind::DiscardRequest => {
                self.bundles.take(control.id)?;
                Kind::DiscardReply
            }
            _ => return Err(Error::new(Code::OfpbfcBadType, "a reply from a controller")),
        };
        Ok(Message::BundleControl(BundleControl { kind, ..control }))
    }

    fn commit(&mut self, bundle: &Bundle, bridge: &mut dyn Bridge, output: &mut Output) -> Result<(), Error> {
        self.may_change()?;
        let Some(dialect) = self.dialect else { return Ok(()) };
        let change = |message: &[u8]| Ok((change_of(message, &dialect)?, xid(message)));
        if let Err((at, error)) = bridge.change_all(&mut messages(&bundle.messages).map(change), self.id) {
            // First the error of the message, then that of the bundle.
            if let Some(message) = messages(&bundle.messages).nth(at) {
                let refused = ErrorMessage::new(error.code, dialect.version, message);
                if let Ok(bytes) = encode(Message::Error(refused), xid(message), dialect, Vec::new()) {
                    output.bytes.extend_from_slice(&bytes);
                }
            }
            return Err(Error::new(Code::OfpbfcMsgFailed, format!("message {at} of the bundle: {error}")));
        }
        self.unsettled = true;
        self.settle(bridge);
        Ok(())
    }

    pub(super) fn bundle_add(
        &mut self,
        mut add: BundleAdd,
        number: u32,
        form: &Dialect,
    ) -> Result<(), Error> {
        self.may_change()?;
        let inner = length(&add.message)?.filter(|length| *length <= add.message.len());
        let Some(inner) = inner.filter(|length| *length >= HEADER) else {
            return Err(Error::new(
                Code::OfpbfcMsgBadLen,
                "the message in a bundle's message ends too early",
            ));
        };
        // Properties behind it say nothing that is known.
        add.message.truncate(inner);
        if add.message[0] != form.version.number() {
            return Err(Error::new(Code::OfpbfcBadVersion, "a message of another version in a bundle"));
        }
        if xid(&add.message) != number {
            return Err(Error::new(Code::OfpbfcMsgBadXid, "a message of another number in a bundle"));
        }
        if !self.bundles.open.contains_key(&add.id) {
            self.bundles.open(add.id, add.flags)?;
        }
        let Some(bundle) = self.bundles.open.get_mut(&add.id) else { return Err(unknown(add.id)) };
        if bundle.closed {
            self.bundles.take(add.id)?;
            return Err(Error::new(Code::OfpbfcBundleClosed, "the bundle is closed"));
        }
        if bundle.flags != add.flags {
            self.bundles.take(add.id)?;
            return Err(Error::new(Code::OfpbfcBadFlags, format!("bundle {} has other flags", add.id)));
        }
        let table_id = self.dialect.is_some_and(|dialect| dialect.table_id);
        check(&change_of(&add.message, &Dialect { table_id, ..*form })?)?;
        if self.bundles.bytes + add.message.len() > MOST_BYTES {
            return Err(Error::new(Code::OfpbfcMsgTooMany, "the bundles of the connection are too large"));
        }
        self.bundles.bytes += add.message.len();
        bundle.messages.extend_from_slice(&add.message);
        Ok(())
    }
}
