//! The script of one connection: which segments cross the border, and when.
//!
//! Contract: a [`Script`] and nothing else decides every segment, so that whoever plays it sees the
//! same. Times are whole milliseconds. Segments are as a real client and a real server send them (RFC
//! 9293, RFC 5321), in an order in which they can pass one observer; nothing is lost on the way but
//! what the script says. Nothing here knows how smtpflow reads a frame.

use std::net::IpAddr;

/// TCP flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// Pauses before a SYN is sent again, in milliseconds: Linux with `tcp_syn_retries` 6.
const RETRIES: [u64; 6] = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000];

/// The end that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who opened the connection.
    Client,
    /// Who listens on port 25.
    Server,
}

/// What a segment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// No payload.
    Nothing,
    /// The server is ready.
    Greeting,
    /// The server takes nobody.
    Unavailable,
    /// EHLO.
    Hello,
    /// The answer to it: several lines in one segment.
    Extensions,
    /// STARTTLS.
    StartTls,
    /// The server begins TLS.
    TlsReady,
    /// A TLS record, of either end.
    Record,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// The server took a command.
    Ok,
    /// The server knows no such recipient.
    NoSuchUser,
    /// DATA.
    Data,
    /// The server waits for the message.
    GoAhead,
    /// A part of a message.
    Message,
    /// The server took a message.
    Queued,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
    /// The server says goodbye.
    Bye,
}

impl Line {
    /// How the payload begins. The rest of it, where it is longer, is filled.
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::Nothing => b"",
            Self::Greeting => b"220 mx.example.net ESMTP Postfix\r\n",
            Self::Unavailable => b"554 5.7.1 Service unavailable; client host blocked\r\n",
            Self::Hello => b"EHLO host.campus.example.org\r\n",
            Self::Extensions => {
                b"250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-STARTTLS\r\n\
                  250 8BITMIME\r\n"
            }
            Self::StartTls => b"STARTTLS\r\n",
            Self::TlsReady => b"220 2.0.0 Ready to start TLS\r\n",
            Self::Record => b"\x17\x03\x03",
            Self::Mail => b"MAIL FROM:<somebody@campus.example.org>\r\n",
            Self::Recipient => b"RCPT TO:<somebody@example.net>\r\n",
            Self::Ok => b"250 2.1.0 Ok\r\n",
            Self::NoSuchUser => b"550 5.1.1 User unknown in local recipient table\r\n",
            Self::Data => b"DATA\r\n",
            Self::GoAhead => b"354 End data with <CR><LF>.<CR><LF>\r\n",
            Self::Message => b"Received: from host.campus.example.org\r\n",
            Self::Queued => b"250 2.0.0 Ok: queued\r\n",
            Self::Reset => b"RSET\r\n",
            Self::Quit => b"QUIT\r\n",
            Self::Bye => b"221 2.0.0 Bye\r\n",
        }
    }
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it passes, in milliseconds since 1970.
    pub at: u64,
    /// Who sends it.
    pub side: Side,
    /// Its TCP flags.
    pub flags: u8,
    /// Its sequence number.
    pub sequence: u32,
    /// Its acknowledgement number.
    pub acknowledgement: u32,
    /// Octets of TCP options: 0, 12 or 20.
    pub options: u16,
    /// What it carries.
    pub line: Line,
    /// How much of that, in octets.
    pub payload: u16,
}

/// Which TCP a host speaks, as far as it shows in the length of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// 20 octets of options in a SYN, 12 in every other segment (time stamps).
    Unix,
    /// 12 octets in a SYN, none in others.
    Windows,
    /// None at all: a SYN made by hand.
    Raw,
}

impl Stack {
    const fn options(self, syn: bool) -> u16 {
        match (self, syn) {
            (Self::Unix, true) => 20,
            (Self::Unix, false) | (Self::Windows, true) => 12,
            (Self::Windows, false) | (Self::Raw, _) => 0,
        }
    }
}

/// VLAN tags that a frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// None.
    None,
    /// One of 802.1Q.
    Vlan(u16),
    /// One of 802.1ad around one of 802.1Q.
    QinQ(u16, u16),
}

/// What is said on a connection that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// The server takes nobody: it says so and closes.
    pub unavailable: bool,
    /// The client asks for TLS, and nothing can be read from there on.
    pub tls: bool,
    /// Messages that are begun, 32 at most.
    pub messages: u8,
    /// Which of them have a recipient that the server does not know, bit by bit: nothing is sent.
    pub rejected: u32,
    /// Octets of each message.
    pub octets: u32,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No answer.
    Silent,
    /// A reset.
    Refused,
    /// It is opened, used and closed.
    Answered(Dialogue),
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// When the first SYN passes, in milliseconds since 1970.
    pub start: u64,
    /// Who opens it.
    pub client: IpAddr,
    /// From this port.
    pub port: u16,
    /// To port 25 of this address, of the same family.
    pub server: IpAddr,
    /// Initial sequence number of the client.
    pub client_isn: u32,
    /// Initial sequence number of the server.
    pub server_isn: u32,
    /// How often the SYN is sent again, 6 times at most.
    pub resent: u8,
    /// From a segment to its answer, in milliseconds.
    pub delay: u16,
    /// The client's TCP; a server speaks as [`Stack::Unix`] to a Unix, else without options.
    pub stack: Stack,
    /// Tags of its frames.
    pub tags: Tags,
    /// Whether what the server sends passes here.
    pub visible: bool,
    /// What becomes of it.
    pub fate: Fate,
}

impl Script {
    /// Hands over every segment that passes, in order.
    pub fn play(&self, take: impl FnMut(&Step)) {
        let mut stage = Stage {
            script: self,
            take,
            at: self.start,
            client: self.client_isn,
            server: self.server_isn,
        };
        stage.open();
    }

    /// When the last segment passes at the latest, whoever sends it.
    pub fn end(&self) -> u64 {
        let all = Self {
            visible: true,
            ..*self
        };
        let mut end = self.start;
        all.play(|step| end = step.at);
        end
    }

    /// Most octets of payload in a segment of 1,500 octets.
    fn segment(&self) -> u32 {
        let ip = if self.client.is_ipv4() { 20 } else { 40 };
        1_500 - ip - 20 - u32::from(self.stack.options(false))
    }
}

struct Stage<'a, F> {
    script: &'a Script,
    take: F,
    at: u64,
    /// The next sequence numbers.
    client: u32,
    server: u32,
}

impl<F: FnMut(&Step)> Stage<'_, F> {
    fn send(&mut self, side: Side, flags: u8, line: Line, payload: u32) {
        let script = self.script;
        let opens = flags & (flag::SYN | flag::FIN) != 0;
        let (mine, theirs) = match side {
            Side::Client => (&mut self.client, self.server),
            Side::Server => (&mut self.server, self.client),
        };
        let step = Step {
            at: self.at,
            side,
            flags,
            sequence: *mine,
            acknowledgement: if flags & flag::ACK == 0 { 0 } else { theirs },
            options: script.stack.options(flags & flag::SYN != 0),
            line,
            payload: payload as u16,
        };
        *mine = mine.wrapping_add(payload + u32::from(opens));
        if side == Side::Client || script.visible {
            (self.take)(&step);
        }
    }

    fn wait(&mut self) {
        self.at += u64::from(self.script.delay);
    }

    fn say(&mut self, side: Side, line: Line) {
        self.wait();
        self.send(side, flag::PSH | flag::ACK, line, line.text().len() as u32);
    }

    fn open(&mut self) {
        let syn = self.client;
        self.send(Side::Client, flag::SYN, Line::Nothing, 0);
        for pause in RETRIES.iter().take(self.script.resent.into()) {
            self.at += pause;
            self.client = syn;
            self.send(Side::Client, flag::SYN, Line::Nothing, 0);
        }
        match self.script.fate {
            Fate::Silent => {}
            Fate::Refused => {
                self.wait();
                // RFC 9293, section 3.5.2: a reset of what nobody listens for has sequence number 0.
                self.server = 0;
                self.send(Side::Server, flag::RST | flag::ACK, Line::Nothing, 0);
            }
            Fate::Answered(dialogue) => {
                self.wait();
                self.send(Side::Server, flag::SYN | flag::ACK, Line::Nothing, 0);
                self.wait();
                self.send(Side::Client, flag::ACK, Line::Nothing, 0);
                self.talk(&dialogue);
                self.close();
            }
        }
    }

    fn talk(&mut self, dialogue: &Dialogue) {
        if dialogue.unavailable {
            return self.say(Side::Server, Line::Unavailable);
        }
        self.say(Side::Server, Line::Greeting);
        self.say(Side::Client, Line::Hello);
        self.say(Side::Server, Line::Extensions);
        if dialogue.tls {
            self.say(Side::Client, Line::StartTls);
            self.say(Side::Server, Line::TlsReady);
            return self.encrypted(dialogue);
        }
        for number in 0..dialogue.messages {
            self.say(Side::Client, Line::Mail);
            self.say(Side::Server, Line::Ok);
            self.say(Side::Client, Line::Recipient);
            if dialogue.rejected >> (number % 32) & 1 != 0 {
                self.say(Side::Server, Line::NoSuchUser);
                self.say(Side::Client, Line::Reset);
                self.say(Side::Server, Line::Ok);
                continue;
            }
            self.say(Side::Server, Line::Ok);
            self.say(Side::Client, Line::Data);
            self.say(Side::Server, Line::GoAhead);
            self.wait();
            self.transfer(Line::Message, dialogue.octets);
            self.say(Side::Server, Line::Queued);
        }
        self.say(Side::Client, Line::Quit);
        self.say(Side::Server, Line::Bye);
    }

    /// What an observer sees of TLS: a handshake of about the usual size, and then records as long as
    /// what is said in them.
    fn encrypted(&mut self, dialogue: &Dialogue) {
        for (side, octets) in [
            (Side::Client, 330),
            (Side::Server, 1_300),
            (Side::Client, 130),
            (Side::Server, 80),
        ] {
            self.wait();
            self.send(side, flag::PSH | flag::ACK, Line::Record, octets);
        }
        for _ in 0..dialogue.messages {
            self.wait();
            self.transfer(Line::Record, dialogue.octets + 200);
            self.wait();
            self.send(Side::Server, flag::PSH | flag::ACK, Line::Record, 60);
        }
    }

    /// A message, with an acknowledgement after every second segment.
    fn transfer(&mut self, line: Line, octets: u32) {
        let most = self.script.segment();
        let mut left = octets.max(line.text().len() as u32);
        let mut number = 0;
        while left > 0 {
            let some = left.min(most);
            left -= some;
            number += 1;
            let push = if left == 0 { flag::PSH } else { 0 };
            self.send(Side::Client, flag::ACK | push, line, some);
            // The beginning of a later segment is the middle of a message.
            if number % 2 == 0 && left > 0 {
                self.wait();
                self.send(Side::Server, flag::ACK, Line::Nothing, 0);
            }
        }
    }

    fn close(&mut self) {
        self.wait();
        self.send(Side::Client, flag::FIN | flag::ACK, Line::Nothing, 0);
        self.wait();
        self.send(Side::Server, flag::FIN | flag::ACK, Line::Nothing, 0);
        self.wait();
        self.send(Side::Client, flag::ACK, Line::Nothing, 0);
    }
}
