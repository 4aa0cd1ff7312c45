use std::fmt::{self, Write};
use std::sync::atomic::Ordering::Relaxed;

use crate::traces::SpanCounts;

impl SpanCounts {
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "# HELP hsm_proxy_spans_total Spans for the collector of traces.")?;
        writeln!(out, "# TYPE hsm_proxy_spans_total counter")?;
        let results = [("exported", &self.exported), ("dropped", &self.dropped), ("failed", &self.failed)];
        results.into_iter().try_for_each(|(result, count)| {
            writeln!(out, "hsm_proxy_spans_total{{result=\"{result}\"}} {}", count.load(Relaxed))
        })
    }
}
