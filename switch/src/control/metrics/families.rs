//! Families of counters and gauges under construction.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, Opts};

/// What a scrape answers.
pub(super) struct Families(pub Vec<MetricFamily>);

impl Families {
    /// Rows of label values and a value. What cannot be made (a name that Prometheus forbids) is a bug, and logged.
    pub fn counters(&mut self, name: &str, help: &str, labels: &[&str], rows: &[(Vec<&str>, u64)]) {
        match IntCounterVec::new(Opts::new(name, help), labels) {
            Ok(family) => {
                for (values, value) in rows {
                    family.with_label_values(values).inc_by(*value);
                }
                self.0.extend(family.collect());
            }
            Err(error) => tracing::error!(%error, name, "metric"),
        }
    }

    /// The same for values that go up and down.
    pub fn gauges(&mut self, name: &str, help: &str, labels: &[&str], rows: &[(Vec<&str>, f64)]) {
        match GaugeVec::new(Opts::new(name, help), labels) {
            Ok(family) => {
                for (values, value) in rows {
                    family.with_label_values(values).set(*value);
                }
                self.0.extend(family.collect());
            }
            Err(error) => tracing::error!(%error, name, "metric"),
        }
    }
}
