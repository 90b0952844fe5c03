//! The OpenMetrics text format, for scrapers that ask for it, and what they ask for.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>; the older format is the `prometheus` crate's.

use prometheus::proto::{LabelPair, MetricFamily, MetricType};
use std::fmt::Write as _;

/// Its media type.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a request's `Accept` prefers OpenMetrics to the older text format.
pub(super) fn is_wanted(accept: &str) -> bool {
    let weight = |kind: &str| {
        let weights = accept.split(',').filter_map(|choice| {
            let mut parts = choice.split(';').map(str::trim);
            if parts.next()? != kind {
                return None;
            }
            let q = parts.find_map(|part| part.strip_prefix("q="));
            Some(q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
        });
        weights.fold(0.0, f64::max)
    };
    let wanted = weight("application/openmetrics-text");
    wanted > 0.0 && wanted >= weight("text/plain")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `{a="b",le="1"}`, or nothing.
fn labels(pairs: &[LabelPair], more: Option<(&str, String)>) -> String {
    let own = pairs.iter().map(|pair| (pair.name(), pair.value().to_owned()));
    let all: Vec<String> =
        own.chain(more).map(|(name, value)| format!("{name}=\"{}\"", escaped(&value))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

/// A bound of a bucket: a number that says it is a float.
fn bound(value: f64) -> String {
    if value.is_infinite() { "+Inf".to_owned() } else { format!("{value:?}") }
}

/// These families. Those that are neither counters, gauges nor histograms are left out; there are none.
pub(super) fn encode(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for family in families {
        let (name, kind) = match family.get_field_type() {
            MetricType::COUNTER => (family.name().trim_end_matches("_total"), "counter"),
            MetricType::GAUGE => (family.name(), "gauge"),
            MetricType::HISTOGRAM => (family.name(), "histogram"),
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {}", escaped(family.help()));
        for metric in family.get_metric() {
            let pairs = metric.get_label();
            let own = labels(pairs, None);
            if kind == "counter" {
                let _ = writeln!(text, "{name}_total{own} {}", metric.get_counter().get_value());
            } else if kind == "gauge" {
                let _ = writeln!(text, "{name}{own} {}", metric.get_gauge().get_value());
            } else {
                let histogram = metric.get_histogram();
                let count = histogram.get_sample_count();
                let mut bounded = false;
                for bucket in histogram.get_bucket() {
                    let le = bucket.upper_bound();
                    bounded |= le.is_infinite();
                    let with = labels(pairs, Some(("le", bound(le))));
                    let _ = writeln!(text, "{name}_bucket{with} {}", bucket.cumulative_count());
                }
                if !bounded {
                    let with = labels(pairs, Some(("le", "+Inf".to_owned())));
                    let _ = writeln!(text, "{name}_bucket{with} {count}");
                }
                let _ = writeln!(text, "{name}_count{own} {count}");
                let _ = writeln!(text, "{name}_sum{own} {}", histogram.get_sample_sum());
            }
        }
    }
    text + "# EOF\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::core::Collector;
    use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, Opts};

    #[test]
    fn it_is_for_those_who_prefer_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert!(is_wanted(prometheus) && is_wanted("application/openmetrics-text"));
        for other in [
            "",
            "*/*",
            "text/plain",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.1,text/plain;q=0.9",
        ] {
            assert!(!is_wanted(other), "{other}");
        }
    }

    #[test]
    fn counters_gauges_and_histograms_as_the_format_has_them() {
        let counter = IntCounterVec::new(Opts::new("a_total", "A \"thing\""), &["l"]).unwrap();
        counter.with_label_values(&["x\"\\y"]).inc_by(3);
        let gauge = Gauge::new("b", "B").unwrap();
        gauge.set(0.5);
        let histogram = Histogram::with_opts(HistogramOpts::new("c", "C").buckets(vec![1.0, 2.5])).unwrap();
        histogram.observe(2.0);
        histogram.observe(9.0);
        let families: Vec<_> =
            [counter.collect(), gauge.collect(), histogram.collect()].into_iter().flatten().collect();
        let expected = r#"# TYPE a counter
# HELP a A \"thing\"
a_total{l="x\"\\y"} 3
# TYPE b gauge
# HELP b B
b 0.5
# TYPE c histogram
# HELP c C
c_bucket{le="1.0"} 0
c_bucket{le="2.5"} 1
c_bucket{le="+Inf"} 2
c_count 2
c_sum 11
# EOF
"#;
        assert_eq!(encode(&families), expected);
    }
}
