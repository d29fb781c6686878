//! What the machine itself allows: the same work without a product in between.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::{Load, Plan, Poller, Recorder};
use crate::{dns, http1};

/// Connections of the TCP echo, and clients of the rows that are compared with it.
const ECHO_CLIENTS: usize = 64;

/// Sockets of the UDP echo, and of the row for DNS.
pub(crate) const UDP_SOCKETS: usize = 8;

/// Limits of the machine, load generator included.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Appends of 256 bytes a second by one thread, each followed by `fdatasync`.
    pub(crate) syncs: f64,
    /// Small requests a second over 64 loopback connections to one thread that echoes.
    pub(crate) tcp: f64,
    /// Datagrams a second to one thread that echoes, 8 sockets with 16 under way on each.
    pub(crate) udp: f64,
    /// Bytes a second that one loopback connection carries.
    pub(crate) stream: f64,
}

impl Limits {
    /// Measures all of them, a second each, with files in `dir`.
    pub(crate) fn measure(dir: &Path) -> Result<Limits> {
        let time = Duration::from_secs(1);
        Ok(Limits { syncs: syncs(dir, time)?, tcp: tcp(time)?, udp: udp(time)?, stream: stream(time)? })
    }

    /// The larger of two measurements of each: what others took from one of them is not the
    /// machine's limit.
    pub(crate) fn larger(self, other: Limits) -> Limits {
        Limits {
            syncs: self.syncs.max(other.syncs),
            tcp: self.tcp.max(other.tcp),
            udp: self.udp.max(other.udp),
            stream: self.stream.max(other.stream),
        }
    }
}

fn syncs(dir: &Path, time: Duration) -> Result<f64> {
    const RECORD: [u8; 256] = [7; 256];
    const ROOM: u64 = 16 << 20;
    let path = dir.join("syncs");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    file.write_all_at(&vec![0; ROOM as usize], 0)?;
    file.sync_all()?;
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < time {
        file.write_all_at(&RECORD, (count * 256) % ROOM)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// The request of the echo, which is an answer of HTTP too, so that the client is the one that the
/// rows use.
struct Echo;

impl http1::Ask for Echo {
    fn request(&mut self) -> &[u8] {
        b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n123456789012345678901234"
    }

    fn answer_bytes_min(&self) -> usize {
        24
    }
}

fn tcp(time: Duration) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let echo = thread::spawn(move || echo(&listener));
    let load = http1::load(address, ECHO_CLIENTS, Plan::lasting(time), &mut Echo, None)?;
    echo.join().expect("the echo does not panic")?;
    Ok(load.rate())
}

/// Echoes on every connection until all are closed.
fn echo(listener: &TcpListener) -> Result<()> {
    let mut poller = Poller::new()?;
    let mut sockets = Vec::with_capacity(ECHO_CLIENTS);
    for token in 0..ECHO_CLIENTS {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        poller.add(&socket, token)?;
        sockets.push(Some(socket));
    }
    let mut buffer = [0; 4096];
    while sockets.iter().any(Option::is_some) {
        let ready = poller.wait(Duration::from_secs(1))?;
        for at in 0..ready {
            let place = &mut sockets[poller.token(at)];
            let Some(socket) = place else { continue };
            let echoed = socket.read(&mut buffer).and_then(|size| socket.write_all(&buffer[..size]).map(|()| size));
            if !matches!(echoed, Ok(1..)) {
                *place = None;
            }
        }
    }
    Ok(())
}

fn udp(time: Duration) -> Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let echo = thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            buffer[2] |= 0x80; // a question becomes an answer
            if socket.send_to(&buffer[..size], from).is_err() {
                break;
            }
        }
    });
    let load: Load = dns::load(address, UDP_SOCKETS, &dns::question("web.service.consul", dns::A), 0, Plan::lasting(time), None)?;
    echo.join().expect("the echo does not panic");
    Ok(load.rate())
}

fn stream(time: Duration) -> Result<f64> {
    const CHUNK: usize = 256 * 1024;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address: SocketAddr = listener.local_addr()?;
    let sender = thread::spawn(move || {
        let chunk = vec![1; CHUNK];
        if let Ok((mut socket, _)) = listener.accept() {
            while socket.write_all(&chunk).is_ok() {}
        }
    });
    let mut socket = TcpStream::connect(address)?;
    let mut recorder = Recorder::begin(Plan::lasting(time), None);
    let mut chunk = vec![0; CHUNK];
    loop {
        let since = Instant::now();
        if !recorder.goes_on(since)? {
            break;
        }
        let bytes = socket.read(&mut chunk)?;
        recorder.received(bytes);
        recorder.done(since, Instant::now());
    }
    drop(socket);
    sender.join().expect("the sender does not panic");
    let load = recorder.finish()?;
    Ok(load.bytes as f64 / load.seconds)
}
