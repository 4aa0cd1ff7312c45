//! Starts the real binaries as a user would, and ends them whatever happens to the test.
//!
//! * [`Stack`]: `hsm-proxy dev` in a directory of its own, on a port of its own
//! * [`Front`]: `hsm-proxy run` beside it, with what it tells its service manager
//! * [`Site`]: engines as an administrator sets them up, with the files of their users
//! * [`Authority`]: a certificate authority that speaks ACME
//! * [`OpensslAuthority`]: one that signs requests from files
//! * [`Browser`][]: Debian's Chromium
//! * [`nginx`]: a web server, of another kind than ours
//! * [`Program`]: any other process that a test starts: an upstream, a peer, a foreign client
//! * [`address`]: ports that nobody has, and waiting for who listens
//! * [`memory`]: what a process holds, for the search for keys
//! * [`files`]: and what is in files
//! * [`needle`]: the forms that a secret may have
//! * [`tool`]: programs from the system; a test whose tool is missing says so, and fails where CI requires it

pub mod address;
mod authority;
mod browser;
mod certificate;
pub mod files;
pub mod front;
pub mod memory;
pub mod needle;
mod nginx;
mod program;
mod replica;
mod site;
mod stack;
pub mod tool;
mod upstream;
pub mod wait;

pub use authority::{Authority, AuthorityOptions, AuthorityTools};
pub use browser::Browser;
pub use certificate::{OpensslAuthority, SelfMadeKey, self_signed};
pub use front::Front;
pub use nginx::nginx;
pub use program::{Finished, Program, binary, run};
pub use site::{Site, SiteOptions, write_private};
pub use stack::{Stack, StackOptions};
pub use upstream::Upstream;
