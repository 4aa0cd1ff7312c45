//! The cluster key is rotated while signatures go on.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keycore_wire::{ClusterInfo, ClusterStatus, RotateClusterKey, SpkiSha256};
use serde_json::{Value, json};

use crate::pipeline::Pipeline;
use crate::{Engine, Outcome, cluster};

/// How often the engine is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Longest that a rotation is waited for.
const PATIENCE: Duration = Duration::from_secs(3600);

const BEFORE: u8 = 0;
const DURING: u8 = 1;
const OVER: u8 = 2;

/// What signatures took before the rotation and during it.
#[derive(Default)]
struct Taken([Vec<Duration>; 2]);

impl Taken {
    fn told(&mut self) -> Value {
        let [before, during] = self.0.each_mut().map(|times| {
            times.sort_unstable();
            let at = |per_mille: usize| {
                let place = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
                times.get(place).map(|time| time.as_secs_f64() * 1e6)
            };
            json!({ "signatures": times.len(), "p50_us": at(500), "p99_us": at(990), "most_us": at(1000) })
        });
        json!({ "before": before, "during": during })
    }
}

/// Signs on two connections, one at a time on each: with one key, as the proxy of a site does, and with all keys in turn, most of which
/// are not in the engine's memory. A signature that fails ends it.
pub(crate) fn rotate(engine: &Engine, before: Duration) -> Outcome<Value> {
    let keys = cluster::all_keys(engine)?;
    let mut admin = cluster::admin(engine)?;
    let one = keys.get(..1).ok_or("there are no keys")?;
    let phase = AtomicU8::new(BEFORE);
    thread::scope(|scope| {
        let sign = |keys| {
            let phase = &phase;
            scope.spawn(move || sign_until_over(engine, keys, phase).map_err(|error| error.to_string()))
        };
        let (hot, cold) = (sign(one), sign(&keys));
        let rotated = (|| {
            thread::sleep(before);
            phase.store(DURING, Ordering::SeqCst);
            let began = Instant::now();
            let begun = admin.call(&RotateClusterKey)?;
            let records = resealing(&begun).ok_or("no rotation began")?;
            while resealing(&admin.call(&ClusterInfo)?).is_some() {
                if began.elapsed() > PATIENCE || hot.is_finished() || cold.is_finished() {
                    return Err("a signature failed, or it does not end".into());
                }
                thread::sleep(LOOK);
            }
            Ok((began.elapsed(), records))
        })();
        phase.store(OVER, Ordering::SeqCst);
        let taken = [hot, cold].map(|signer| signer.join().map_err(|_| "a signer panicked".to_owned()));
        let [hot, cold] = taken.map(|taken| taken.and_then(|taken| taken));
        let (mut hot, mut cold) = (hot?, cold?);
        let (took, records): (Duration, u64) = rotated.map_err(|error: Box<dyn std::error::Error>| error)?;
        Ok(json!({
            "seconds": took.as_secs_f64(),
            "records": records,
            "one_key": hot.told(),
            "all_keys": cold.told(),
        }))
    })
}

/// How many records a rotation that goes on is about.
fn resealing(status: &ClusterStatus) -> Option<u64> {
    Some(status.unseal.as_ref()?.resealing?.total)
}

fn sign_until_over(engine: &Engine, keys: &[SpkiSha256], phase: &AtomicU8) -> Outcome<Taken> {
    let mut pipeline = Pipeline::open(engine)?;
    let mut taken = Taken::default();
    for &key in keys.iter().cycle() {
        let at = phase.load(Ordering::SeqCst);
        let Some(times) = taken.0.get_mut(usize::from(at)) else { break };
        let began = Instant::now();
        pipeline.sign_with(key)?;
        times.push(began.elapsed());
    }
    Ok(taken)
}
