use core::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_bytes::ByteBuf;

use crate::list::at_most;
use crate::session::UnixMillis;

/// Most names that the cluster's certificate can be asked for with.
pub const MAX_CLUSTER_NAMES: usize = 32;

/// Most certificates in the cluster's chain.
pub const MAX_CLUSTER_CHAIN: usize = 8;

/// Longest chain and trust anchor together, in bytes of DER.
pub const MAX_CLUSTER_CERTIFICATES: usize = 16 * 1024;

/// A name by which clients reach the engines: a subject alternative name (RFC 5280, section 4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterName {
    /// A DNS name, in ASCII.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// Asks for the certification request of the cluster's identity key, which is made when it is first asked for. Before the cluster
/// is active whoever may open the socket may ask, afterwards an admin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterCsr {
    /// Names that the certificate is to have; at most [`MAX_CLUSTER_NAMES`].
    #[serde(deserialize_with = "at_most::<MAX_CLUSTER_NAMES, _, _>")]
    pub names: Vec<ClusterName>,
}

/// A request for a certificate, signed inside the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificationRequest {
    /// PKCS#10 in DER (RFC 2986).
    #[serde(with = "serde_bytes")]
    pub der: Vec<u8>,
}

/// Sets the certificate that the engines show to clients on the network, and the CA that both sides trust; in place of earlier
/// ones, if there are. Before the cluster is active whoever may open the socket may do it, afterwards an admin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetClusterCertificate {
    /// X.509 in DER: the certificate of the cluster's identity key, then those above it without the root; 1 to
    /// [`MAX_CLUSTER_CHAIN`].
    #[serde(deserialize_with = "chain")]
    pub chain: Vec<Vec<u8>>,
    /// The self-signed CA certificate, in DER. With the chain at most [`MAX_CLUSTER_CERTIFICATES`] bytes.
    #[serde(with = "serde_bytes")]
    pub trust_anchor: Vec<u8>,
}

/// The certificate that the cluster has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterCertificateStatus {
    /// Whose it is, in the order of the certificate: `CN=…`.
    pub subject: String,
    /// The last moment that it is valid.
    pub not_after: UnixMillis,
    /// SHA-256 of the certificate in DER.
    pub sha256: [u8; 32],
    /// SHA-256 of the trust anchor's certificate in DER.
    pub trust_anchor_sha256: [u8; 32],
}

/// Reads a chain. A length of more than what follows makes no room for it.
fn chain<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let chain = at_most::<MAX_CLUSTER_CHAIN, ByteBuf, D>(source)?;
    Ok(chain.into_iter().map(ByteBuf::into_vec).collect())
}
