//! The plot: cycles a packet against the number of flows, a line a system.

use crate::case::{Kind, Lengths};
use crate::report::Report;
use crate::system::System;
use std::fmt::Write as _;

/// Size of one panel's axes, pixels.
const AXES: (f64, f64) = (340.0, 240.0);
/// Left and top edge of the first panel's axes.
const ORIGIN: (f64, f64) = (70.0, 60.0);
/// Distance from panel to panel.
const STEP: f64 = 450.0;
/// Flows at the right edge, as a power of ten.
const DECADES: f64 = 6.0;

type Line = (System, Vec<(f64, f64)>);

/// The plot of all measurements of `encap` and `decap` with the shortest frames and one worker.
pub fn plot(report: &Report) -> String {
    let panels = [("encapsulate", Kind::Encap), ("decapsulate", Kind::Decap)]
        .map(|(title, kind)| (title, lines(report, kind)));
    let points = || panels.iter().flat_map(|(_, lines)| lines).flat_map(|(_, points)| points);
    let highest = points().map(|(_, cycles)| *cycles).fold(100.0, f64::max);
    let top = (highest / 100.0).ceil() * 100.0;
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"380\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"900\" height=\"380\" fill=\"white\"/>\n\
         <text x=\"70\" y=\"22\" font-size=\"15\">TSC cycles a packet, one worker, 64-byte frames, devices included (less is better)</text>\n",
    );
    for (n, (title, lines)) in panels.iter().enumerate() {
        panel(&mut out, ORIGIN.0 + STEP * n as f64, title, lines, top);
    }
    let _ = writeln!(
        out,
        "<text x=\"70\" y=\"368\" fill=\"#666\" font-size=\"11\">{}, {}</text>\n</svg>",
        report.machine.cpu, report.date
    );
    out
}

fn lines(report: &Report, kind: Kind) -> Vec<Line> {
    let of = |system| {
        let results = report
            .results
            .iter()
            .filter(|r| r.case.kind == kind && r.case.workers == 1 && r.case.lengths == Lengths::Shortest);
        let point = |r: &crate::report::CaseResult| {
            let summary = r.systems.get(&system)?.summary?;
            Some((r.case.flows as f64, summary.min))
        };
        (system, results.filter_map(point).collect())
    };
    System::ALL.map(of).into_iter().collect()
}

fn colour(system: System) -> &'static str {
    match system {
        System::Testpmd => "#777777",
        System::Ovs => "#c0392b",
        System::Vxswitch => "#1f6fb2",
        System::Before => "#e08e0b",
    }
}

fn panel(out: &mut String, left: f64, title: &str, lines: &[Line], top: f64) {
    let (width, height) = AXES;
    let bottom = ORIGIN.1 + height;
    let x = |flows: f64| left + flows.log10() / DECADES * width;
    let y = |cycles: f64| bottom - cycles / top * height;
    let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", ORIGIN.1 - 10.0);
    let tick = if top > 500.0 { 200.0 } else { 100.0 };
    let mut cycles = 0.0;
    while cycles <= top {
        let at = y(cycles);
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
            left + width
        );
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{cycles}</text>",
            left - 6.0,
            at + 4.0
        );
        cycles += tick;
    }
    for (power, label) in ["1", "10", "100", "1k", "10k", "100k", "1M"].iter().enumerate() {
        let at = x(10f64.powi(power as i32));
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 18.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">flows</text>",
        left + width / 2.0,
        bottom + 36.0
    );
    for (system, points) in lines {
        let Some(last) = points.last() else { continue };
        let colour = colour(*system);
        let path: Vec<String> = points.iter().map(|(f, c)| format!("{:.1},{:.1}", x(*f), y(*c))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (flows, cycles) in points {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(*flows),
                y(*cycles)
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"end\">{}</text>",
            x(last.0),
            y(last.1) - 8.0,
            system.name()
        );
    }
}
