//! What captures and monitors together make workers send copies of.

use super::SlowPath;
use crate::bridge::observed::Observed;
use flow::program::PortId;

impl SlowPath {
    /// A capture or a monitor has come or gone.
    pub(super) fn observers_changed(&mut self) {
        let mut observed = Observed::default();
        self.captures.add_to(&mut observed);
        self.monitors.add_to(&mut observed);
        for ports in [&mut observed.received, &mut observed.sent] {
            ports.sort_unstable();
            ports.dedup();
        }
        for bridges in [&mut observed.controllers, &mut observed.misses] {
            bridges.sort_unstable();
            bridges.dedup();
        }
        // Only workers know what they drop after translation.
        self.drops_wanted = observed.drops || self.monitors() > 0;
        for worker in &self.workers {
            worker.counters.drop_copies.set_wanted(self.drops_wanted);
        }
        if observed != self.state.observed {
            // Who listens for packets for controllers changes nothing of what tunnels and terminations do.
            let (controllers, misses) = (observed.controllers.clone(), observed.misses.clone());
            let only_controllers =
                Observed { controllers, misses, ..self.state.observed.clone() } == observed;
            self.state.observed = observed;
            self.everything_changed();
            if only_controllers {
                return self.revalidate_changed();
            }
            // What tunnels send is captured where it leaves.
            self.rebuild_adjacencies();
            // A port whose packets are wanted has those looked up that were known without.
            self.send_termination();
            self.revalidate_changed();
        }
    }

    /// Ends the captures and monitors of a port that goes.
    pub(super) fn end_observers_of(&mut self, port: PortId) {
        self.captures.end_those_of(port);
        self.monitors.end_those_of(port);
        self.observers_changed();
    }
}
