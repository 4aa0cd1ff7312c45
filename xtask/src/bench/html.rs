//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use super::figures::{Ratio, Results, ServerResults};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;\
text-align:right;border-bottom:1px solid #d8dee4}td:first-child,th:first-child{text-align:left}\
svg text{font:14px system-ui,sans-serif;fill:currentColor}.small{color:#57606a;font-size:.9rem}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#30363d}}";

/// Pixels of the longest bar.
const BAR: f64 = 560.0;
/// Pixels of a row.
const ROW: f64 = 44.0;
/// Pixels of the column of names.
const NAMES: f64 = 220.0;

pub(crate) fn page(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Handshakes per CPU-second</title>\n\
         <style>{STYLE}</style>\n<h1>Handshakes per CPU-second</h1>\n\
         <p>{work}; {concurrency} at a time. CPU time is user and system of all processes of a server. Bars are medians \
         of {rounds} rounds of {seconds}&nbsp;s, dots the rounds. Every server on one core, the client on another, \
         in turns.</p>\n{chart}\n{table}\n{ratios}\n\
         <p class=\"small\">{when}; {processor}, {cores} cores, Linux {kernel}; {compiler}; {openssl}; commit {commit}. \
         Repeat it: <code>cargo xtask bench</code></p>\n</html>\n",
        work = escape(results.work),
        concurrency = results.concurrency,
        rounds = results.rounds,
        seconds = results.seconds,
        chart = chart(&results.servers),
        table = table(&results.servers),
        ratios = ratios(&results.ratios),
        when = escape(&results.when),
        processor = escape(&machine.processor),
        cores = machine.cores,
        kernel = escape(&machine.kernel),
        compiler = escape(&machine.compiler),
        openssl = escape(&machine.openssl),
        commit = escape(&machine.commit),
    )
}

fn chart(servers: &[ServerResults]) -> String {
    let figures = servers.iter().flat_map(|server| &server.rounds).map(|figure| figure.per_cpu_second);
    let scale = BAR / figures.fold(1.0, f64::max);
    let mut rows = String::new();
    let mut top = 0.0;
    for (index, server) in servers.iter().enumerate() {
        let median = server.per_cpu_second();
        let fill = if index == 0 { "#1f6feb" } else { "#8b949e" };
        let middle = top + ROW / 2.0;
        let _infallible = write!(
            rows,
            "<text x=\"0\" y=\"{text}\">{name}</text>\
             <rect x=\"{NAMES}\" y=\"{bar}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\"/>\
             <text x=\"{end:.1}\" y=\"{text}\">{median:.0}</text>",
            text = middle + 5.0,
            name = escape(server.name),
            bar = top + 8.0,
            width = median * scale,
            height = ROW - 16.0,
            end = NAMES + BAR + 14.0,
        );
        for figure in &server.rounds {
            let x = NAMES + figure.per_cpu_second * scale;
            let _infallible = write!(
                rows,
                "<circle cx=\"{x:.1}\" cy=\"{middle}\" r=\"4\" fill=\"#d29922\" fill-opacity=\".8\"/>"
            );
        }
        top += ROW;
    }
    let width = NAMES + BAR + 80.0;
    format!(
        "<svg viewBox=\"0 0 {width} {top}\" width=\"100%\" role=\"img\" aria-label=\"bar chart\">{rows}</svg>"
    )
}

fn table(servers: &[ServerResults]) -> String {
    let rounds = servers.iter().map(|server| server.rounds.len()).max().unwrap_or(0);
    let mut text = "<table><tr><th>server</th><th>median</th>".to_owned();
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::sample;
    use super::*;

    #[test]
    fn the_page_stands_alone_and_escapes() {
        let page = page(&sample());
        assert!(page.contains("1 &lt;2&gt;") && !page.contains("1 <2>"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
        assert_eq!(page.matches("<rect").count(), 3);
        assert_eq!(page.matches("<circle").count(), 9);
    }
}
