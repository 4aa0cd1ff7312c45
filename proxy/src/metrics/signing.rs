use std::fmt::{self, Write};

use super::quoted;
use crate::keys::{SignerStatus, SigningCounts};

/// How those who sign do.
pub(super) fn write(signers: &[SignerStatus], counts: &SigningCounts, out: &mut String) -> fmt::Result {
    if signers.is_empty() {
        return Ok(());
    }
    for (name, help, count) in [
        ("signatures", "Signatures that engines were asked for.", counts.calls),
        ("signature_failures", "Signatures that no engine made in time.", counts.failures),
        (
            "failovers",
            "Requests sent to another engine: a connection was lost, or an engine silent, or refused for reasons of its own.",
            counts.failovers,
        ),
        ("hedges", "Requests sent to a second engine because the answer was late.", counts.hedges),
        ("hedge_wins", "Hedges whose answer came first.", counts.hedge_wins),
    ] {
        writeln!(out, "# HELP hsm_proxy_{name}_total {help}\n# TYPE hsm_proxy_{name}_total counter")?;
        writeln!(out, "hsm_proxy_{name}_total {count}")?;
    }
    writeln!(out, "# HELP hsm_proxy_engine_up Whether all workers ask the engine.")?;
    writeln!(out, "# TYPE hsm_proxy_engine_up gauge")?;
    for signer in signers {
        writeln!(out, "hsm_proxy_engine_up{{engine={}}} {}", quoted(&signer.name), u8::from(signer.up))?;
    }
    type Count = fn(&SignerStatus) -> u64;
    let counts: [(&str, &str, Count); 4] = [
        ("answers", "Answers of the engine.", |signer| signer.answers),
        ("losses", "Connections to the engine that were lost.", |signer| signer.losses),
        ("silences", "Times that the engine was taken for frozen.", |signer| signer.silences),
        (
            "timed_answers",
            "Answers to signatures and the like that came first of all that were asked.",
            |signer| signer.timed_answers,
        ),
    ];
    for (name, help, count) in counts {
        writeln!(out, "# HELP hsm_proxy_engine_{name}_total {help}")?;
        writeln!(out, "# TYPE hsm_proxy_engine_{name}_total counter")?;
        for signer in signers {
            writeln!(
                out,
                "hsm_proxy_engine_{name}_total{{engine={}}} {}",
                quoted(&signer.name),
                count(signer)
            )?;
        }
    }
    let name = "hsm_proxy_engine_answer_seconds_total";
    writeln!(out, "# HELP {name} How long the timed answers took together, from sending to receiving.")?;
    writeln!(out, "# TYPE {name} counter")?;
    for signer in signers {
        writeln!(out, "{name}{{engine={}}} {}", quoted(&signer.name), signer.answer_time.as_secs_f64())?;
    }
    Ok(())
}
