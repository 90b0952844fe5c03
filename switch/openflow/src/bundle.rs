//! Bundles: messages that take effect together or not at all (OpenFlow 1.4; the ONF's extension for 1.3).

use crate::coder::{Coder, Step};
use crate::error::{Code, Error};

/// All at once (`OFPBF_ATOMIC`).
pub const ATOMIC: u16 = 1 << 0;
/// In their order (`OFPBF_ORDERED`).
pub const ORDERED: u16 = 1 << 1;

/// What is said about a bundle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BundleControlKind {
    /// A new one.
    #[default]
    OpenRequest,
    /// It is open.
    OpenReply,
    /// No more messages.
    CloseRequest,
    /// It is closed.
    CloseReply,
    /// Do it.
    CommitRequest,
    /// It is done.
    CommitReply,
    /// Forget it.
    DiscardRequest,
    /// It is forgotten.
    DiscardReply,
}

/// `OFPT_BUNDLE_CONTROL`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BundleControl {
    /// Its number on this connection.
    pub id: u32,
    /// What is said.
    pub kind: BundleControlKind,
    /// [`ATOMIC`], [`ORDERED`].
    pub flags: u16,
}

impl BundleControl {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        use BundleControlKind as Kind;
        const KINDS: [Kind; 8] = [
            Kind::OpenRequest,
            Kind::OpenReply,
            Kind::CloseRequest,
            Kind::CloseReply,
            Kind::CommitRequest,
            Kind::CommitReply,
            Kind::DiscardRequest,
            Kind::DiscardReply,
        ];
        c.u32(&mut self.id)?;
        let mut kind = self.kind as u16;
        c.u16(&mut kind)?;
        let known = KINDS.get(usize::from(kind)).copied();
        self.kind = known.ok_or_else(|| Error::new(Code::OfpbfcBadType, format!("bundle control {kind}")))?;
        c.u16(&mut self.flags)?;
        // Properties: none is known, and none changes what a bundle does here.
        c.rest(&mut Vec::new())
    }
}

/// `OFPT_BUNDLE_ADD_MESSAGE`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BundleAdd {
    /// The bundle, which is opened by its first message if it is not yet.
    pub id: u32,
    /// [`ATOMIC`], [`ORDERED`].
    pub flags: u16,
    /// A whole message, with a header of the same version and number; properties may follow it.
    pub message: Vec<u8>,
}

impl BundleAdd {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.id)?;
        c.pad(2)?;
        c.u16(&mut self.flags)?;
        c.rest(&mut self.message)
    }
}
