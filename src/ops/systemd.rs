//! The service manager protocol: notifications (`sd_notify(3)`) and passed sockets (`sd_listen_fds(3)`).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::ensure;
use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::http::listener::Listener;

/// A client of systemd's notification socket. Without that socket it does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notifier {
    listens: bool,
}

impl Notifier {
    /// Returns the notifier that the environment describes.
    #[must_use]
    pub fn of_environment() -> Self {
        Self { listens: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    /// Reports the end of the start or of a reload.
    pub fn ready(self) {
        self.notify(&[NotifyState::Ready]);
    }

    /// Reports the start of a reload. The time in it distinguishes the reload from an earlier one.
    pub fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "no monotonic clock"),
        }
    }

    /// Reports that the proxy drains: it accepts no requests, and finishes those in flight.
    pub fn stopping(self) {
        self.notify(&[NotifyState::Stopping]);
    }

    /// Sends a line for `systemctl status`.
    pub fn status(self, text: &str) {
        self.notify(&[NotifyState::Status(text)]);
    }

    /// Sends a watchdog ping.
    pub fn watchdog(self) {
        self.notify(&[NotifyState::Watchdog]);
    }

    /// Returns the longest interval between watchdog pings before the manager restarts the process, if it is enabled.
    #[must_use]
    pub fn watchdog_interval(self) -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|_| self.listens)
    }

    fn notify(self, states: &[NotifyState<'_>]) {
        if self.listens
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::warn!(%error, "cannot notify systemd: {states:?}");
        }
    }
}

/// Returns the listeners that the manager has opened, with the names of their sockets (`FileDescriptorName=`).
///
/// Call it once, before any thread starts: it removes environment variables that would mislead child processes.
pub fn listeners() -> io::Result<Vec<(String, TcpListener)>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let mut names = names.split(':').map(str::to_owned);
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default();
        if let Some(listener) = passed.take_tcp_listener(index)? {
            listener.set_nonblocking(true)?;
            listeners.push((name, listener));
        }
    }
    Ok(listeners)
}

/// Removes the sockets named `listen` from `passed`, and returns the one for each of `listeners`, in their order.
///
/// A single socket belongs to a single listener. Several are matched by their bound addresses, because systemd passes
/// them in the order of their units' names. A mismatch would serve plain HTTP on the TLS port, or the reverse.
pub fn assign(
    listeners: &[Listener],
    passed: &mut Vec<(String, TcpListener)>,
) -> anyhow::Result<Vec<Option<TcpListener>>> {
    let is_ours = |(name, _): &mut (String, TcpListener)| name == "listen";
    let mut sockets: Vec<TcpListener> = passed.extract_if(.., is_ours).map(|(_, socket)| socket).collect();
    if let ([_], [_]) = (listeners, &sockets[..]) {
        return Ok(vec![sockets.pop()]);
    }
    let mut assigned = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let position =
            |is_match: &dyn Fn(SocketAddr) -> bool| sockets.iter().position(|it| it.local_addr().is_ok_and(is_match));
        // An equal address first: `[::]` and `0.0.0.0` can both be open at one port.
        let index =
            position(&|bound| bound == listener.address).or_else(|| position(&|it| is_at(it, listener.address)));
        assigned.push(index.map(|index| sockets.remove(index)));
    }
    let left: Vec<String> = sockets.iter().filter_map(|it| it.local_addr().ok()).map(|it| it.to_string()).collect();
    let addresses: Vec<String> = listeners.iter().map(|listener| listener.address.to_string()).collect();
    ensure!(
        left.is_empty(),
        "the sockets named \"listen\" on {} match the address of no [[listen]], which are {}: write the address of \
         its socket into each [[listen]]",
        left.join(" and "),
        addresses.join(" and "),
    );
    Ok(assigned)
}

/// Returns whether a socket bound to `bound` belongs to `address`. `[::]` accepts IPv4 as well.
fn is_at(bound: SocketAddr, address: SocketAddr) -> bool {
    let is_any = bound.ip().is_unspecified() && address.ip().is_unspecified();
    bound.port() == address.port() && (is_any || bound.ip().to_canonical() == address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: SocketAddr) -> Listener {
        let (trusted_proxies, hosts, trusted_origins) = Default::default();
        Listener {
            address,
            is_ipv6_only: false,
            trusted_proxies,
            hosts,
            trusted_origins,
            proxy_protocol: false,
            tls: None,
            to_https: None,
        }
    }

    fn sockets(count: usize) -> Vec<(String, TcpListener)> {
        (0..count).map(|_| ("listen".to_owned(), TcpListener::bind("127.0.0.1:0").unwrap())).collect()
    }

    #[test]
    fn swapped_sockets_go_to_the_listener_at_their_address() {
        let mut passed = sockets(2);
        passed.push(("admin".to_owned(), TcpListener::bind("127.0.0.1:0").unwrap()));
        let addresses = [1, 0].map(|index: usize| passed[index].1.local_addr().unwrap());
        let assigned = assign(&addresses.map(listener), &mut passed).unwrap();
        let bound = assigned.into_iter().map(|socket| socket.unwrap().local_addr().unwrap());
        assert!(bound.eq(addresses));
        assert_eq!(passed.len(), 1);
    }

    #[test]
    fn passed_socket_of_no_listener_is_an_error() {
        let mut passed = sockets(2);
        let addresses = [passed[0].1.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 1))];
        let bound = passed[1].1.local_addr().unwrap();
        let error = assign(&addresses.map(listener), &mut passed).unwrap_err().to_string();
        let expected =
            format!("on {bound} match the address of no [[listen]], which are {} and 127.0.0.1:1", addresses[0]);
        assert!(error.contains(&expected), "{error}");
    }

    #[test]
    fn single_socket_at_any_address_goes_to_the_single_listener() {
        let assigned = assign(&[listener(SocketAddr::from(([0; 4], 80)))], &mut sockets(1)).unwrap();
        assert!(assigned[0].is_some());
    }

    #[test]
    fn wildcards_of_both_families_are_equal() {
        let at = |bound: &str, address: &str| is_at(bound.parse().unwrap(), address.parse().unwrap());
        assert!(at("[::]:80", "0.0.0.0:80"));
        assert!(!at("[::]:80", "0.0.0.0:443"));
        assert!(!at("[::]:80", "127.0.0.1:80"));
    }
}
