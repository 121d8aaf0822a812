//! Questions to the kernel by netlink.
//!
//! Contract: the caller gets the payloads of the messages that answer its question, and nothing of
//! other senders or other questions. What stands in them is the caller's to read.
#![forbid(unsafe_code)]

use std::io;

use anyhow::{Context as _, anyhow};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};

/// A line to the kernel, in the network namespace of the thread that opened it.
pub(super) struct Kernel {
    socket: Socket,
    /// Number of the last question; its answers carry it too.
    sequence: u32,
}

/// What a question is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    /// All that there is.
    All,
    /// What the question names.
    One,
}

impl Kernel {
    /// Opens one to a family of netlink's.
    pub(super) fn open(protocol: isize) -> anyhow::Result<Self> {
        let mut socket = Socket::new(protocol).context("cannot open a netlink socket")?;
        socket.bind_auto().context("cannot bind a netlink socket")?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Asks a question and reads the whole answer. An error number of the kernel's is an
    /// [`io::Error`] below the context.
    pub(super) fn ask(
        &mut self,
        message_type: u16,
        about: About,
        payload: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut answer = self.question(message_type, about, payload)?;
        while !answer.done {
            self.receive(&mut answer)?;
        }
        Ok(answer)
    }

    /// Asks for all that there is and hands over each message, without keeping them. Gives whether what the
    /// kernel wrote down changed meanwhile.
    pub(super) fn ask_each(
        &mut self,
        message_type: u16,
        payload: &[u8],
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let mut answer = self.question(message_type, About::All, payload)?;
        while !answer.done {
            self.receive(&mut answer)?;
            for message in answer.messages.drain(..) {
                each(&message)?;
            }
        }
        Ok(answer.disturbed)
    }

    fn question(
        &mut self,
        message_type: u16,
        about: About,
        payload: &[u8],
    ) -> anyhow::Result<Answer> {
        self.sequence += 1;
        let request = request(message_type, about, self.sequence, payload);
        self.socket
            .send_to(&request, &SocketAddr::new(0, 0), 0)
            .context("cannot ask the kernel by netlink")?;
        Ok(Answer::to(self.sequence))
    }

    /// Reads the next part of an answer.
    fn receive(&mut self, answer: &mut Answer) -> anyhow::Result<()> {
        match self.socket.recv_from_full() {
            // Other processes can write to this socket as well.
            Ok((datagram, sender)) if sender.port_number() == 0 => answer.read(&datagram),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error).context("cannot read the kernel's answer by netlink"),
        }
    }
}

/// A message with its header (struct nlmsghdr of linux/netlink.h).
fn request(message_type: u16, about: About, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let flags = NLM_F_REQUEST
        | match about {
            About::All => NLM_F_DUMP,
            // So that the end of an answer is marked, as it is for a dump.
            About::One => NLM_F_ACK,
        };
    let length = u32::try_from(16 + payload.len()).expect("questions are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The kernel fills in the port.
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// What has been read of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The payloads of its messages.
    pub(super) messages: Vec<Vec<u8>>,
    /// The kernel says that what it wrote down changed meanwhile.
    pub(super) disturbed: bool,
    sequence: u32,
    done: bool,
}

impl Answer {
    fn to(sequence: u32) -> Self {
        Self {
            sequence,
            ..Self::default()
        }
    }

    /// Reads the messages of one datagram.
    fn read(&mut self, mut datagram: &[u8]) -> anyhow::Result<()> {
        while !datagram.is_empty() && !self.done {
            let message = NetlinkBuffer::new_checked(datagram)
                .map_err(|error| anyhow!("the kernel's answer is no netlink message: {error}"))?;
            if message.sequence_number() == self.sequence {
                self.disturbed |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    NLMSG_DONE => self.done = true,
                    NLMSG_ERROR => {
                        let code = message
                            .payload()
                            .first_chunk()
                            .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                        // No error at all is how it marks the end.
                        if code != 0 {
                            return Err(io::Error::from_raw_os_error(code.saturating_abs()))
                                .context("the kernel refuses");
                        }
                        self.done = true;
                    }
                    _ => self.messages.push(message.payload().to_vec()),
                }
            }
            // Messages start at multiples of four bytes.
            let next = (message.length() as usize).next_multiple_of(4);
            datagram = datagram.get(next..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Kind and value of each attribute, up to the first that is broken.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    // By hand, for the iterator of netlink-packet-core lends each value only until the next.
    std::iter::from_fn(move || {
        let attribute = NlasIterator::new(rest).next()?.ok()?;
        let (kind, length) = (attribute.kind(), attribute.value().len());
        let value = rest.get(4..4 + length)?;
        rest = rest
            .get((4 + length).next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, value))
    })
}

/// An attribute with its header and padding.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("attributes of questions are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of this type that answers question 1.
    fn message(message_type: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = request(message_type, About::One, 1, payload);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_end_of_a_dump_and_its_disturbance_are_seen() {
        let mut answer = Answer::to(1);
        answer
            .read(&message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4]))
            .expect("well formed");
        assert!(answer.done && answer.disturbed);
    }

    #[test]
    fn an_error_of_the_kernel_is_told_with_its_number() {
        let error = Answer::to(1)
            .read(&message(NLMSG_ERROR, 0, &(-1_i32).to_ne_bytes()))
            .expect_err("refused");
        let cause: &io::Error = error.downcast_ref().expect("the number");
        assert_eq!(cause.raw_os_error(), Some(1));
        assert!(format!("{error:#}").contains("not permitted"), "{error:#}");
    }

    #[test]
    fn the_answer_to_one_ends_with_no_error() {
        let mut datagram = message(32, 0, b"five!");
        datagram.resize(datagram.len().next_multiple_of(4), 0);
        datagram.extend(message(NLMSG_ERROR, 0, &[0; 20]));
        let mut answer = Answer::to(1);
        answer.read(&datagram).expect("well formed");
        assert!(answer.done && !answer.disturbed);
        assert_eq!(answer.messages, [b"five!"]);
    }

    #[test]
    fn answers_to_other_questions_are_passed_over() {
        let mut answer = Answer::to(2);
        answer
            .read(&message(NLMSG_ERROR, 0, &(-1_i32).to_ne_bytes()))
            .expect("not ours");
        answer
            .read(&message(32, 0, b"late"))
            .expect("not ours either");
        assert!(!answer.done && answer.messages.is_empty());
    }

    #[test]
    fn attributes_come_back_as_they_were_written_and_end_at_a_broken_one() {
        let mut bytes = attribute(1, b"a");
        bytes.extend(attribute(2 | 0x8000, b"four"));
        bytes.extend([3, 0, 9, 0]);
        bytes.extend(attribute(4, b"lost"));
        let read: Vec<_> = attributes(&bytes).collect();
        // The upper bit says that there are attributes in the attribute, which its kind says too.
        assert_eq!(read, [(1, &b"a"[..]), (2, &b"four"[..])]);
    }
}
