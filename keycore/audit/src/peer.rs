//! Who is at the other end of a connection.

use core::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, on a Unix socket: what the kernel vouches for (SO_PEERCRED).
    Local {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Process id.
        pid: u32,
    },
    /// A client of another machine, over TLS: the certificate chains to the cluster's trust anchor.
    Remote {
        /// Where it connected from.
        address: SocketAddr,
        /// Which certificate it showed.
        certificate: CertificateSha256,
    },
}

/// Whom an address stands for where clients are counted: an IPv4 address itself, of an IPv6 address its /64, for whoever has
/// one has the other 2^64 - 1 as well.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

/// SHA-256 of a certificate's DER, as `openssl x509 -fingerprint -sha256` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CertificateSha256(pub [u8; 32]);

impl fmt::Display for CertificateSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid, pid, .. } => write!(f, "process {pid} of user {uid}"),
            Self::Remote { address, certificate } => write!(f, "{address} with certificate {certificate}"),
        }
    }
}

/// An optional peer is one enumeration on the disk. Its first two variants are what `Option` of a local peer was before there
/// were others, so that older records are read as they were written.
pub(crate) mod optional {
    use serde::{Deserializer, Serializer};

    use super::{CertificateSha256, Deserialize, Peer, Serialize, SocketAddr};

    #[derive(Serialize, Deserialize)]
    enum Recorded {
        Nobody,
        Local { uid: u32, gid: u32, pid: u32 },
        Remote { address: SocketAddr, certificate: CertificateSha256 },
    }

    pub(crate) fn serialize<S: Serializer>(peer: &Option<Peer>, serializer: S) -> Result<S::Ok, S::Error> {
        match *peer {
            None => Recorded::Nobody,
            Some(Peer::Local { uid, gid, pid }) => Recorded::Local { uid, gid, pid },
            Some(Peer::Remote { address, certificate }) => Recorded::Remote { address, certificate },
        }
        .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Peer>, D::Error> {
        Ok(match Recorded::deserialize(deserializer)? {
            Recorded::Nobody => None,
            Recorded::Local { uid, gid, pid } => Some(Peer::Local { uid, gid, pid }),
            Recorded::Remote { address, certificate } => Some(Peer::Remote { address, certificate }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Field(#[serde(with = "optional")] Option<Peer>);

    fn round_trip(peer: Option<Peer>) -> Vec<u8> {
        let bytes = postcard::to_allocvec(&Field(peer)).unwrap();
        assert_eq!(postcard::from_bytes::<Field>(&bytes).unwrap(), Field(peer));
        bytes
    }

    #[test]
    fn records_of_local_peers_are_as_they_were_before_there_were_others() {
        #[derive(Serialize)]
        struct Process(u32, u32, u32);
        let before = |process: Option<Process>| postcard::to_allocvec(&process).unwrap();
        assert_eq!(round_trip(None), before(None));
        let local = Peer::Local { uid: 990, gid: 33, pid: 70_000 };
        assert_eq!(round_trip(Some(local)), before(Some(Process(990, 33, 70_000))));
    }

    #[test]
    fn a_remote_peer_is_its_address_and_its_certificate() {
        let certificate = CertificateSha256([0xab; 32]);
        for address in ["192.0.2.7:40000", "[2001:db8::7]:40000"] {
            let peer = Peer::Remote { address: address.parse().unwrap(), certificate };
            assert_eq!(round_trip(Some(peer))[0], 2);
            assert_eq!(peer.to_string(), format!("{address} with certificate {}", "ab".repeat(32)));
        }
    }
}
