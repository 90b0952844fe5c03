//! Families of counters and gauges under construction.

use prometheus::core::Collector;
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
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

    /// A histogram without labels: how many are in each bucket, of which the last has no upper bound, and the sum of all.
    pub fn histogram(&mut self, name: &str, help: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut total = 0;
        let cumulative = counts.iter().map(|count| {
            total += count;
            total
        });
        let buckets = bounds.iter().zip(cumulative).map(|(bound, cumulative)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        self.0.push(family);
    }

    /// Rows of label values and a value that goes up and down.
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
