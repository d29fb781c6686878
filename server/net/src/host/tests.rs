use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;

use super::*;
use crate::Network;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer than anything here can take.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_socket_that_shares_an_address_gets_its_share() {
    let sockets = Network::host().shared_datagrams(ANY, 2).await.unwrap();
    let address = sockets[0].local_address().unwrap();
    assert_eq!(sockets[1].local_address().unwrap(), address);
    let mut clients = Vec::new();
    for _ in 0..128 {
        let client = UdpSocket::bind(ANY).await.unwrap();
        client.send_to(b"hello", address).await.unwrap();
        clients.push(client);
    }
    let mut counts = [0; 2];
    while counts.iter().sum::<usize>() < clients.len() {
        let ready = timeout(DEADLINE, async {
            let [first, second] = &sockets[..] else { panic!("two were asked for") };
            tokio::select! {
                ready = std::future::poll_fn(|cx| first.poll_readable(cx)) => ready.map(|()| 0),
                ready = std::future::poll_fn(|cx| second.poll_readable(cx)) => ready.map(|()| 1),
            }
        });
        let at = ready.await.expect("all of them arrive").unwrap();
        while sockets[at].try_receive(&mut [0; 8]).is_ok() {
            counts[at] += 1;
        }
    }
    // All 128 ports on one side has a chance of 2^-127.
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[tokio::test]
async fn an_address_that_is_shared_is_not_shared_with_strangers() {
    let network = Network::host();
    let sockets = network.shared_datagrams(ANY, 2).await.unwrap();
    let error = network.shared_datagrams(sockets[0].local_address().unwrap(), 2).await.err().expect("it is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn an_exchange_hears_its_peer_and_nobody_else() {
    let network = Network::host();
    let peer = network.datagrams(ANY).await.unwrap();
    let exchange = network.exchange(peer.local_address().unwrap()).await.unwrap();
    exchange.send(b"question").await.unwrap();
    let mut buffer = [0; 16];
    let (length, from) = timeout(DEADLINE, peer.receive(&mut buffer)).await.expect("it arrives").unwrap();
    assert_eq!(&buffer[..length], b"question");
    let stranger = network.datagrams(ANY).await.unwrap();
    stranger.send(b"lie", from).await.unwrap();
    peer.send(b"answer", from).await.unwrap();
    let length = timeout(DEADLINE, exchange.receive(&mut buffer)).await.expect("it arrives").unwrap();
    assert_eq!(&buffer[..length], b"answer");
}

#[tokio::test]
async fn an_exchange_learns_that_nobody_is_there() {
    let network = Network::host();
    let gone = network.datagrams(ANY).await.unwrap().local_address().unwrap();
    let exchange = network.exchange(gone).await.unwrap();
    let asked = async {
        // The system may tell it of the first datagram when the second one is sent.
        exchange.send(b"anybody?").await?;
        exchange.receive(&mut [0; 1]).await
    };
    let error = timeout(DEADLINE, asked).await.expect("the system says so").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_program_of_this_machine_is_reached_by_its_path() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("socket");
    let network = Network::host();
    assert_eq!(network.connect_local(&path, DEADLINE).await.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    let listener = UnixListener::bind(&path).unwrap();
    let mut near = network.connect_local(&path, DEADLINE).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    near.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    timeout(DEADLINE, far.read_exact(&mut heard)).await.expect("it arrives").unwrap();
    assert_eq!(&heard, b"hello");
}
