//! Which bridges are devices of the kernel, for who follows what the kernel has there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Shared {
    names: Mutex<BTreeSet<String>>,
    changed: Notify,
}

/// Bridges whose LOCAL port is a device of the kernel that runs. Shared by who makes them and who follows them.
#[derive(Debug, Clone, Default)]
pub struct LocalDevices(Arc<Shared>);

impl LocalDevices {
    /// There are these now, and some of them may be new devices of old names.
    pub fn set(&self, names: BTreeSet<String>) {
        *self.0.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        self.0.changed.notify_one();
    }

    /// Those.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Until they are set again; at once if that was since the last call.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}
