//! CSRs and certificates whose private keys live in the HSM engine.
//!
//! Root, intermediate and server keys all stay in the engine: rcgen lays out the bytes, the engine signs them over
//! its socket, and this crate checks what it is about to hand out. Profiles are typed: a [`CaProfile`] makes a CA
//! certificate, a [`ServerProfile`] one for a TLS server, a [`ClientProfile`] one for a TLS client, whose key is its own
//! file or in the engine (RFC 5280; no other kinds are made).
//!
//! ```no_run
//! # use std::{cell::RefCell, time::Duration};
//! # use hsm_certs::{CaProfile, Days, Issuer, RemoteKey, ServerNames, ServerProfile, Validity, root_ca};
//! # use keycore_wire::KeySelector;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = keycore_client::blocking::Client::connect(&[], Duration::from_secs(1))?;
//! let now = time::OffsetDateTime::now_utc();
//! let client = RefCell::new(client); // logged in
//! let ca_key = RemoteKey::load(&client, KeySelector::Label("ca".parse()?))?;
//! let ca = root_ca(
//!     &ca_key,
//!     &CaProfile::new("Example root".parse()?, Validity::starting(now, Days::new(3650)?)),
//! )?;
//!
//! let site_key = RemoteKey::load(&client, KeySelector::Label("www".parse()?))?;
//! let names = ServerNames::new(["localhost".parse()?, "127.0.0.1".parse()?, "::1".parse()?])?;
//! let site = Issuer::new(ca.chain_pem().as_bytes(), &ca_key)?
//!     .issue(&site_key.subject(), &ServerProfile::new(names, Validity::starting(now, Days::new(365)?)))?;
//! println!("{}", site.chain_pem());
//! # Ok(()) }
//! ```

mod certificate;
mod challenge;
mod client;
mod error;
mod issuer;
mod key;
mod names;
mod pem;
mod profile;
mod request;
mod verify;

pub use certificate::Certificate;
pub use challenge::tls_alpn_challenge;
pub use client::ClientKey;
pub use error::Error;
pub use issuer::{Issuer, root_ca, self_signed};
pub use key::{RemoteKey, RemoteSigner, SubjectKey};
pub use names::{AlternativeName, DnsName, InvalidCertificateName, ServerNames, SubjectText};
use pem::secret_to_pem;
pub use pem::to_pem;
pub use profile::{CaProfile, ClientProfile, Days, ServerProfile, Subject, Validity};
pub use request::{CertificateRequest, client_request, request};
