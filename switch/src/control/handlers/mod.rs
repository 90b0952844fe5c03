//! What the control API does, a file a subject. A handler reads the running state through the slow path, or edits the
//! document and lets [`super::apply`] make it so.

pub(super) mod capture;
pub(super) mod configure;
pub(super) mod events;
pub(super) mod flows;
pub(super) mod groups;
pub(super) mod handover;
pub(super) mod monitor;
pub(super) mod operate;
pub(super) mod ports;
pub(super) mod refused;
mod stream;
pub(super) mod tlvs;
pub(super) mod views;
