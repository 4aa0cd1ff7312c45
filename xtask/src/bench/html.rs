//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use super::figures::{Comparison, Latency, Ratio, Results, ServerResults};
use super::tail::Tail;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}td,th{padding:.25rem .75rem;\
text-align:right;border-bottom:1px solid #d8dee4}td:first-child,th:first-child{text-align:left}\
svg text{font:14px system-ui,sans-serif;fill:currentColor}.small{color:#57606a;font-size:.9rem}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#30363d}.small{color:#8b949e}}";

/// Pixels of the longest bar.
const BAR: f64 = 560.0;
/// Pixels of a row.
const ROW: f64 = 44.0;
/// Pixels of the column of names.
const NAMES: f64 = 220.0;
/// Pixels for the figure behind a bar.
const FIGURE: f64 = 90.0;

/// Ours, and the parts of a server.
const COLOURS: [&str; 3] = ["#1f6feb", "#8957e5", "#3fb950"];
const OTHER: &str = "#8b949e";

pub(crate) fn page(results: &Results, work: &str) -> String {
    let machine = &results.machine;
    let sections: String = results.comparisons.iter().map(section).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>hsm-proxy and its peers: {work}</title>\n\
         <style>{STYLE}</style>\n<h1>hsm-proxy and its peers, per CPU-second</h1>\n\
         <p>CPU time is user and system of all processes of a server. Bars are medians of {rounds} rounds of {seconds}&nbsp;s, \
         dots the rounds. Every server on one core, the client on another, in turns. Handshakes are {concurrency} at a time.</p>\n\
         {sections}{tail}\n\
         <p class=\"small\">{when}; {processor}, {cores} cores, Linux {kernel}; {compiler}; {openssl}; commit {commit}. \
         Repeat it: <code>cargo xtask bench {work} --rounds {rounds} --seconds {seconds}</code></p>\n</html>\n",
        work = escape(work),
        rounds = results.rounds,
        seconds = results.seconds,
        concurrency = results.concurrency,
        tail = results.tail.as_ref().map(tail).unwrap_or_default(),
        when = escape(&results.when),
        processor = escape(&machine.processor),
        cores = machine.cores,
        kernel = escape(&machine.kernel),
        compiler = escape(&machine.compiler),
        openssl = escape(&machine.openssl),
        commit = escape(&machine.commit),
    )
}

fn section(comparison: &Comparison) -> String {
    let Comparison { title, unit, servers, .. } = comparison;
    format!(
        "<h2>{title}</h2>\n{ratios}\n<h3>{unit} per CPU-second</h3>\n{rates}\n<h3>CPU-microseconds of each, by program</h3>\n{costs}\n\
         {latency}{table}\n",
        title = escape(title),
        unit = escape(unit),
        ratios = ratios(&comparison.ratios),
        rates = rates(servers),
        costs = costs(servers),
        latency = latencies(servers),
        table = table(servers),
    )
}

fn rates(servers: &[ServerResults]) -> String {
    let figures = servers.iter().flat_map(|server| &server.rounds).map(|figure| figure.per_cpu_second);
    let scale = BAR / figures.fold(1.0, f64::max);
    let mut chart = Chart::default();
    for (index, server) in servers.iter().enumerate() {
        let median = server.per_cpu_second();
        chart.bar(server.name, &[(colour(index, 0), median * scale)], &format!("{median:.0}"));
        for figure in &server.rounds {
            chart.dot(figure.per_cpu_second * scale);
        }
    }
    chart.svg("bar chart of rates")
}

fn costs(servers: &[ServerResults]) -> String {
    let totals = servers.iter().map(|server| server.costs().iter().map(|(_, cost)| cost).sum::<f64>());
    let scale = BAR / totals.fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = Chart::default();
    for (index, server) in servers.iter().enumerate() {
        let costs = server.costs();
        let parts: Vec<(&str, f64)> =
            costs.iter().enumerate().map(|(part, (_, cost))| (colour(index, part), cost * scale)).collect();
        let total: f64 = costs.iter().map(|(_, cost)| cost).sum();
        let words: Vec<String> = costs.iter().map(|(program, cost)| format!("{program} {cost:.1}")).collect();
        let label = if words.len() > 1 { words.join(" + ") } else { format!("{total:.1}") };
        chart.bar_inside(server.name, &parts, &label);
    }
    chart.svg("bar chart of costs")
}

/// One of the latencies.
type Of = fn(&Latency) -> f64;

/// On a logarithmic scale: the slowest are far from the rest.
fn latencies(servers: &[ServerResults]) -> String {
    let at = |server: &ServerResults, of: Of| server.median_of(|figure| figure.latency.as_ref().map(of));
    const QUANTILES: [(&str, Of); 4] = [
        ("p50", |latency| latency.p50_ms),
        ("p90", |latency| latency.p90_ms),
        ("p99", |latency| latency.p99_ms),
        ("p99.9", |latency| latency.p999_ms),
    ];
    let all: Vec<f64> =
        servers.iter().flat_map(|server| QUANTILES.iter().filter_map(|(_, of)| at(server, *of))).collect();
    let (least, most) = (
        all.iter().copied().fold(f64::INFINITY, f64::min).max(0.001),
        all.iter().copied().fold(0.002, f64::max),
    );
    if all.is_empty() {
        return String::new();
    }
    let place = |ms: f64| (ms.max(least) / least).ln() / (most / least).ln().max(f64::MIN_POSITIVE) * BAR;
    let mut chart = Chart::default();
    for (index, server) in servers.iter().enumerate() {
        let Some(slowest) = at(server, |latency| latency.p999_ms) else { continue };
        chart.line(server.name, &format!("{slowest:.1} ms"));
        for (name, of) in QUANTILES {
            if let Some(ms) = at(server, of) {
                chart.tick(place(ms), colour(index, 0), &format!("{name} {ms:.2} ms"));
            }
        }
    }
    let svg = chart.svg("latencies");
    format!("<h3>Latency: p50, p90, p99, p99.9, logarithmic</h3>\n{svg}\n")
}

fn colour(server: usize, part: usize) -> &'static str {
    match (server, part) {
        (0, part) => COLOURS[part % COLOURS.len()],
        (_, 0) => OTHER,
        (_, part) => COLOURS[part % COLOURS.len()],
    }
}

/// Rows of bars.
#[derive(Default)]
struct Chart {
    rows: String,
    top: f64,
}

impl Chart {
    /// The figure stands behind the longest bar.
    fn bar(&mut self, name: &str, parts: &[(&str, f64)], figure: &str) {
        self.row(name, parts, NAMES + BAR + 14.0, figure);
    }

    /// The figure stands on the bar's line, at its beginning.
    fn bar_inside(&mut self, name: &str, parts: &[(&str, f64)], figure: &str) {
        let length: f64 = parts.iter().map(|(_, width)| width).sum();
        self.row(name, parts, NAMES + length.min(BAR * 0.6) + 8.0, figure);
    }

    fn line(&mut self, name: &str, figure: &str) {
        self.row(name, &[], NAMES + BAR + 14.0, figure);
    }

    fn row(&mut self, name: &str, parts: &[(&str, f64)], figure_at: f64, figure: &str) {
        let text = self.top + ROW / 2.0 + 5.0;
        let mut x = NAMES;
        let _infallible = write!(self.rows, "<text x=\"0\" y=\"{text}\">{}</text>", escape(name));
        for (fill, width) in parts {
            let _infallible = write!(
                self.rows,
                "<rect x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" fill=\"{fill}\"/>",
                self.top + 8.0,
                ROW - 16.0
            );
            x += width;
        }
        let _infallible =
            write!(self.rows, "<text x=\"{figure_at:.1}\" y=\"{text}\">{}</text>", escape(figure));
        self.top += ROW;
    }

    /// On the row before.
    fn dot(&mut self, x: f64) {
        let (x, y) = (NAMES + x, self.top - ROW / 2.0);
        let _infallible = write!(
            self.rows,
            "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"4\" fill=\"#d29922\" fill-opacity=\".8\"/>"
        );
    }

    fn tick(&mut self, x: f64, fill: &str, title: &str) {
        let (x, y) = (NAMES + x, self.top - ROW + 10.0);
        let _infallible = write!(
            self.rows,
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"4\" height=\"{}\" fill=\"{fill}\"><title>{}</title></rect>",
            ROW - 20.0,
            escape(title)
        );
    }

    fn svg(&self, label: &str) -> String {
        let width = NAMES + BAR + FIGURE;
        format!(
            "<svg viewBox=\"0 0 {width} {}\" width=\"100%\" role=\"img\" aria-label=\"{label}\">{}</svg>",
            self.top, self.rows
        )
    }
}

fn table(servers: &[ServerResults]) -> String {
    let rounds = servers.iter().map(|server| server.rounds.len()).max().unwrap_or(0);
    let mut text = "<table><tr><th>per CPU-second</th><th>median</th>".to_owned();
    for round in 1..=rounds {
        let _infallible = write!(text, "<th>round {round}</th>");
    }
    text.push_str("<th>processes</th><th>threads</th><th>version</th></tr>");
    for server in servers {
        let _infallible =
            write!(text, "<tr><td>{}</td><td>{:.0}</td>", escape(server.name), server.per_cpu_second());
        for figure in &server.rounds {
            let _infallible = write!(text, "<td>{:.0}</td>", figure.per_cpu_second);
        }
        let (processes, threads, version) = (server.processes, server.threads, escape(&server.version));
        let _infallible = write!(text, "<td>{processes}</td><td>{threads}</td><td>{version}</td></tr>");
    }
    text + "</table>"
}

fn ratios(ratios: &[Ratio]) -> String {
    let mut text = "<ul>".to_owned();
    for Ratio { to, goal, median, least, most } in ratios {
        let _infallible =
            write!(text, "<li><b>{median:.2}</b> times {} ({least:.2} to {most:.2})", escape(to));
        if let Some(goal) = goal {
            let verdict = if median >= goal { "met" } else { "missed" };
            let _infallible = write!(text, "; the goal of {goal:.2} is {verdict}");
        }
        text.push_str("</li>");
    }
    text + "</ul>"
}

fn tail(tail: &Tail) -> String {
    let mut text = "<h2>Slowest handshakes</h2><table><tr><th>what</th><th>median</th><th>least</th><th>most</th><th>goal</th></tr>".to_owned();
    for ratio in tail.ratios() {
        let verdict = if ratio.median <= ratio.goal { "met" } else { "missed" };
        let _infallible = write!(
            text,
            "<tr><td>{}</td><td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>at most {:.2}: {verdict}</td></tr>",
            escape(ratio.what),
            ratio.median,
            ratio.least,
            ratio.most,
            ratio.goal
        );
    }
    text + "</table>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::sample;
    use super::*;

    #[test]
    fn the_page_stands_alone_and_escapes() {
        let page = page(&sample(), "handshakes");
        assert!(page.contains("1 &lt;2&gt;") && !page.contains("1 <2>"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
        // Three bars of rates, six parts of costs, twelve quantiles.
        assert_eq!(page.matches("<rect").count(), 3 + 6 + 12);
        assert_eq!(page.matches("<circle").count(), 9);
        assert!(!page.contains("NaN"));
    }
}
