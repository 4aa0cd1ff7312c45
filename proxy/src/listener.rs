use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel completes before we accept them.
pub(crate) const BACKLOG: i32 = 4096;

/// One listening socket for each of `workers` on the same address; the kernel spreads connections over them
/// (`SO_REUSEPORT`, see `socket(7)`). They don't block.
///
/// An IPv6 address takes IPv6 only, whatever the system's default is. Port 0 takes one free port for all of them.
///
/// # Errors
///
/// Those of `bind(2)` and `listen(2)`; `AddrInUse` also if another process of this user listens there with
/// `SO_REUSEPORT`, such as a second proxy: the kernel would share the clients out between the two.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        socket(address)?.bind(&address.into())?;
    }
    let first = bind_one(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind_one(address)?);
    }
    Ok(listeners)
}

/// At least one for each of `workers` of listening sockets on the same address that are there already; none of none.
///
/// If they share their port (`SO_REUSEPORT`), as another proxy's do, more are bound beside them; else, as from a service
/// manager, the workers share one queue.
///
/// # Errors
///
/// Those of `bind(2)`, `listen(2)` and `dup(2)`.
pub(crate) fn share(mut listeners: Vec<TcpListener>, workers: usize) -> io::Result<Vec<TcpListener>> {
    let Some(first) = listeners.first() else { return Ok(listeners) };
    let address = first.local_addr()?;
    let shares_port = SockRef::from(first).reuse_port()?;
    listeners.iter().try_for_each(|listener| configure(&SockRef::from(listener)))?;
    let there = listeners.len();
    for at in there..workers {
        let another = if shares_port { bind_one(address)? } else { listeners[at % there].try_clone()? };
        listeners.push(another);
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    configure(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What connections inherit from the socket that they are accepted on: small writes leave at once. Setting that for each would
/// be a system call more.
fn configure(listener: &Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)
}

/// The address at this end of every connection that is accepted here, or `None` if each has its own: then the socket listens on
/// all addresses, or takes connections to any (`IP_TRANSPARENT`).
pub(crate) fn address_of_all(listener: &tokio::net::TcpListener) -> Option<SocketAddr> {
    let address = listener.local_addr().ok()?;
    let is_transparent = SockRef::from(listener).ip_transparent_v4().unwrap_or(true);
    (!address.ip().is_unspecified() && !is_transparent).then_some(address)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_free_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listeners) = bind(address.parse().unwrap(), 3) else {
                assert!(address.starts_with('['), "only IPv6 may be missing");
                continue;
            };
            let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
            assert_eq!(ports.len(), 3);
            assert!(ports[0] != 0 && ports.iter().all(|&port| port == ports[0]));
        }
    }

    #[test]
    fn listeners_that_are_there_are_made_enough() {
        let address = "127.0.0.1:0".parse().unwrap();
        let of_a_proxy = share(bind(address, 2).unwrap(), 3).unwrap();
        let of_a_manager = share(vec![TcpListener::bind(address).unwrap()], 3).unwrap();
        for listeners in [of_a_proxy, of_a_manager] {
            let first = listeners[0].local_addr().unwrap();
            assert_eq!(listeners.len(), 3);
            assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == first));
        }
        assert_eq!(
            share(bind(address, 3).unwrap(), 2).unwrap().len(),
            3,
            "none is closed: clients wait there"
        );
        assert!(share(Vec::new(), 2).unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_address_is_known_unless_it_is_any() {
        let listening = |address: &str| {
            bind(address.parse().unwrap(), 1)
                .map(|mut listeners| tokio::net::TcpListener::from_std(listeners.remove(0)).unwrap())
        };
        let known = listening("127.0.0.1:0").unwrap();
        assert_eq!(address_of_all(&known), known.local_addr().ok());
        assert!(address_of_all(&listening("0.0.0.0:0").unwrap()).is_none());
        if let Ok(known) = listening("[::1]:0") {
            assert_eq!(address_of_all(&known), known.local_addr().ok());
        }
    }

    #[test]
    fn connections_send_at_once() {
        let address = "127.0.0.1:0".parse().unwrap();
        let ours = bind(address, 1).unwrap();
        let of_a_manager = share(vec![TcpListener::bind(address).unwrap()], 2).unwrap();
        for listener in ours.iter().chain(&of_a_manager) {
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.set_nonblocking(false).unwrap();
            assert!(listener.accept().unwrap().0.nodelay().unwrap());
        }
    }

    #[test]
    fn a_port_is_not_shared_with_another_proxy() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert_eq!(bind(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // Connections of the last proxy that are still open, or were just closed, are no obstacle.
        let _open = std::net::TcpStream::connect(address).unwrap();
        drop(listeners);
        bind(address, 2).unwrap();
    }
}
