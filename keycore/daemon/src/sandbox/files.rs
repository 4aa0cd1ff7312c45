//! Landlock: which files, and which port.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::{Gap, Needs, can_read};

/// What the rules are written for: Linux 6.12. An older kernel enforces the part that it has.
const WANTED: ABI = ABI::V6;

/// The least that is a confinement of files: Linux 5.13.
const LEAST: ABI = ABI::V1;

/// Lets this thread, and those that it starts, reach what is needed and no other file.
pub(super) fn confine(needs: &Needs) -> Result<(), Gap> {
    // Read once, on some kernels from /proc, and remembered; whoever needs it later panics without it.
    let _remembered = rustix::param::page_size();
    let everything = AccessFs::from_all(WANTED);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(&needs.write, everything & !AccessFs::Execute))?
        .add_rules(path_beneath_rules(&needs.read, AccessFs::from_read(WANTED) & !AccessFs::Execute))?
        .add_rules(needs.port.map(|port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::BindTcp))))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(Gap::Unsupported);
    }
    // Proved, not assumed: this file is there and readable by everybody.
    if can_read(Path::new("/proc/self/status")) {
        return Err(Gap::Leaky("reading other files"));
    }
    Ok(())
}
