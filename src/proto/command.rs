//! The frame kinds.

/// What a frame is for, by its number on the wire (protocol.md, Frames).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Padding, read and dropped; either side.
    Waste = 0,
    /// Opens a stream; from the client, without data.
    Syn = 1,
    /// Bytes of a stream; either side.
    Psh = 2,
    /// Ends a stream, both directions; either side, without data, not answered.
    Fin = 3,
    /// The client's [`ClientSettings`](super::settings::ClientSettings): the first frame of a session.
    Settings = 4,
    /// The server's last words, as text; the session ends after it.
    Alert = 5,
    /// The server's raw padding scheme text, when the client's is another.
    UpdatePaddingScheme = 6,
    /// The server's answer to a Syn (version 2): no data when the stream is open, else why it failed.
    SynAck = 7,
    /// Asks whether the session lives (version 2); either side, without data.
    HeartRequest = 8,
    /// Answers a HeartRequest with its stream id (version 2); either side, without data.
    HeartResponse = 9,
    /// The server's [`ServerSettings`](super::settings::ServerSettings) (version 2).
    ServerSettings = 10,
}

impl Command {
    /// Every command, at the index of its number.
    const ALL: [Self; 11] = [
        Self::Waste,
        Self::Syn,
        Self::Psh,
        Self::Fin,
        Self::Settings,
        Self::Alert,
        Self::UpdatePaddingScheme,
        Self::SynAck,
        Self::HeartRequest,
        Self::HeartResponse,
        Self::ServerSettings,
    ];
}

/// A number that no command of this protocol has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown command {0}")]
pub struct UnknownCommand(pub u8);

impl TryFrom<u8> for Command {
    type Error = UnknownCommand;

    fn try_from(number: u8) -> Result<Self, UnknownCommand> {
        Self::ALL.get(usize::from(number)).copied().ok_or(UnknownCommand(number))
    }
}

impl From<Command> for u8 {
    fn from(command: Command) -> Self {
        command as Self // repr(u8): the number above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_numbers_of_the_protocol() {
        let numbers = [
            (0, Command::Waste),
            (1, Command::Syn),
            (2, Command::Psh),
            (3, Command::Fin),
            (4, Command::Settings),
            (5, Command::Alert),
            (6, Command::UpdatePaddingScheme),
            (7, Command::SynAck),
            (8, Command::HeartRequest),
            (9, Command::HeartResponse),
            (10, Command::ServerSettings),
        ];
        for (number, command) in numbers {
            assert_eq!(Command::try_from(number), Ok(command));
            assert_eq!(u8::from(command), number);
        }
    }

    #[test]
    fn other_numbers_are_unknown() {
        for number in 11..=u8::MAX {
            assert_eq!(Command::try_from(number), Err(UnknownCommand(number)));
        }
    }
}
