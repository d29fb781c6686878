//! DNS over UDP: several sockets, each with several questions under way.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::load::{Load, Plan, Poller, Recorder};
use crate::process::Process;

/// Questions under way on one socket. An id is a question's place in this window, and above it
/// the number of its round, so that a late answer is not taken for another one.
const WINDOW: u16 = 16;

/// How long an answer may take before its question counts as lost and is asked again.
const PATIENCE: Duration = Duration::from_millis(500);

/// Address record.
pub(crate) const A: u16 = 1;
/// Start of authority.
pub(crate) const SOA: u16 = 6;

/// A question in wire format, with 0 as its id.
pub(crate) fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

/// Asks once: how many records the answer has, or nothing when none comes in time.
pub(crate) fn once(server: SocketAddr, question: &[u8], patience: Duration) -> Result<Option<u16>> {
    let socket = connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    let mut answer = [0; 1500];
    let received = socket.send(question).and_then(|_| socket.recv(&mut answer));
    Ok(received.ok().and_then(|size| records(&answer[..size])))
}

/// The number of answer records, if this is an answer without an error.
fn records(answer: &[u8]) -> Option<u16> {
    let good = answer.len() >= 12 && answer[2] & 0x80 != 0 && answer[3] & 0x0f == 0;
    good.then(|| u16::from_be_bytes([answer[6], answer[7]]))
}

fn connect(server: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    Ok(socket)
}

/// One socket and its questions.
struct Line {
    socket: UdpSocket,
    question: Vec<u8>,
    /// Id and moment of each question under way.
    asked: Vec<(u16, Instant)>,
}

impl Line {
    fn open(server: SocketAddr, question: &[u8]) -> Result<Line> {
        let socket = connect(server)?;
        socket.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Line { socket, question: question.to_vec(), asked: (0..WINDOW).map(|id| (id, now)).collect() })
    }

    fn ask(&mut self, place: usize, now: Instant) -> Result<()> {
        let id = self.asked[place].0.wrapping_add(WINDOW);
        self.asked[place] = (id, now);
        self.question[..2].copy_from_slice(&id.to_be_bytes());
        self.socket.send(&self.question).context("cannot send a DNS question")?;
        Ok(())
    }

    fn ask_lost_again(&mut self, now: Instant, recorder: &mut Recorder<'_>) -> Result<()> {
        for place in 0..self.asked.len() {
            if now - self.asked[place].1 > PATIENCE {
                recorder.lost();
                self.ask(place, now)?;
            }
        }
        Ok(())
    }

    /// Takes every answer that is there, and asks the next question for each.
    fn turn(&mut self, buffer: &mut [u8], records_min: u16, recorder: &mut Recorder<'_>) -> Result<()> {
        loop {
            let size = match self.socket.recv(buffer) {
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot receive a DNS answer"),
            };
            let now = Instant::now();
            let found = records(&buffer[..size]).context("a DNS question was answered with an error")?;
            ensure!(found >= records_min, "a DNS answer has {found} records instead of {records_min}");
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            let place = usize::from(id % WINDOW);
            if self.asked[place].0 == id {
                recorder.done(self.asked[place].1, now);
                self.ask(place, now)?;
            }
        }
    }
}

/// Puts load on a server with one question, from this many sockets.
pub(crate) fn load(
    server: SocketAddr,
    sockets: usize,
    question: &[u8],
    records_min: u16,
    plan: Plan,
    process: Option<&Process>,
) -> Result<Load> {
    let mut poller = Poller::new()?;
    let mut lines = (0..sockets).map(|_| Line::open(server, question)).collect::<Result<Vec<_>>>()?;
    let mut recorder = Recorder::begin(plan, process);
    let mut buffer = vec![0; 4096];
    for (token, line) in lines.iter_mut().enumerate() {
        poller.add(&line.socket, token)?;
        (0..usize::from(WINDOW)).try_for_each(|place| line.ask(place, Instant::now()))?;
    }
    let mut looked = Instant::now();
    loop {
        let now = Instant::now();
        if !recorder.goes_on(now)? {
            return recorder.finish();
        }
        if now - looked > PATIENCE {
            looked = now;
            lines.iter_mut().try_for_each(|line| line.ask_lost_again(now, &mut recorder))?;
        }
        let ready = poller.wait(Duration::from_millis(100))?;
        for at in 0..ready {
            lines[poller.token(at)].turn(&mut buffer, records_min, &mut recorder)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_rfc_1035_says() {
        let packet = question("web.service.consul", A);
        assert_eq!(packet[12..], *b"\x03web\x07service\x06consul\x00\x00\x01\x00\x01");
        assert_eq!(packet.len(), 36);
    }

    #[test]
    fn only_an_answer_without_an_error_has_records() {
        assert_eq!(records(&[0, 1, 0x85, 0x80, 0, 1, 0, 3, 0, 0, 0, 0]), Some(3));
        assert_eq!(records(&[0, 1, 0x85, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(records(&question("web", A)), None);
        assert_eq!(records(&[0; 5]), None);
    }
}
