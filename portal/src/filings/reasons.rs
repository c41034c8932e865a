//! Why a filing is returned: a code that statistics can count, and words that the sender can
//! act on.
//!
//! A returned filing always carries both; there is no way to make a [`ReturnReason`] without.

/// How long the words may be, in characters.
pub const TEXT_LIMIT_CHARS: usize = 1_000;

/// The reasons that staff choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReturnCode {
    /// 記載不備.
    Incomplete,
    /// 添付不足.
    AttachmentMissing,
    /// 対象者不明.
    PersonUnknown,
    /// 届書名称相違.
    WrongForm,
    /// 判読不能.
    Illegible,
    /// 重複.
    Duplicate,
    /// その他.
    Other,
}

/// Whether a code says enough by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// The code alone tells the sender nothing he can act on.
    Required,
    /// Words may be added.
    Optional,
}

/// A code and, where needed, words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnReason {
    code: ReturnCode,
    text: String,
}

/// A reason that the sender could not act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReasonError {
    /// No such code.
    #[error("unknown return code")]
    UnknownCode,
    /// The code needs words.
    #[error("the return code needs words")]
    WordsMissing,
    /// Too many words.
    #[error("the reason is longer than {TEXT_LIMIT_CHARS} characters")]
    TooLong,
}

impl ReturnCode {
    /// Every code, in the order of the form.
    pub const ALL: [Self; 7] = [
        Self::Incomplete,
        Self::AttachmentMissing,
        Self::PersonUnknown,
        Self::WrongForm,
        Self::Illegible,
        Self::Duplicate,
        Self::Other,
    ];

    /// Word in the database, label, what the sender is told to do, and whether words must follow.
    const fn facts(self) -> (&'static str, &'static str, &'static str, Words) {
        match self {
            Self::Incomplete => (
                "incomplete",
                "記載不備",
                "記載に誤りや漏れがあります。下の内容を直して、再提出してください。",
                Words::Required,
            ),
            Self::AttachmentMissing => (
                "attachment_missing",
                "添付不足",
                "必要な書類が足りません。書類をそろえて、再提出してください。",
                Words::Required,
            ),
            Self::PersonUnknown => (
                "person_unknown",
                "対象者不明",
                "届書の対象者を確認できません。加入者番号と氏名を確かめて、再提出してください。",
                Words::Optional,
            ),
            Self::WrongForm => (
                "wrong_form",
                "届書名称相違",
                "ファイル名の届書名称と、届書の内容が違います。正しい名称で再提出してください。",
                Words::Optional,
            ),
            Self::Illegible => (
                "illegible",
                "判読不能",
                "文字が読み取れません。PDFを作り直して、再提出してください。",
                Words::Optional,
            ),
            Self::Duplicate => (
                "duplicate",
                "重複",
                "同じ内容の届書をすでに受け付けています。内容が違うときは、訂正して再提出してください。",
                Words::Optional,
            ),
            Self::Other => (
                "other",
                "その他",
                "下の内容を確かめて、再提出してください。",
                Words::Required,
            ),
        }
    }

    /// The word in the database and in forms.
    pub const fn code(self) -> &'static str {
        self.facts().0
    }

    /// The name of the reason.
    pub const fn label(self) -> &'static str {
        self.facts().1
    }

    /// What the sender is told to do.
    pub const fn advice(self) -> &'static str {
        self.facts().2
    }

    /// Whether words must follow.
    pub const fn words(self) -> Words {
        self.facts().3
    }

    /// Reads the word back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }
}

impl ReturnReason {
    /// Reads what staff chose and wrote.
    pub fn parse(code: &str, text: &str) -> Result<Self, ReasonError> {
        let code = ReturnCode::from_code(code).ok_or(ReasonError::UnknownCode)?;
        let text = text.trim();
        if text.is_empty() && code.words() == Words::Required {
            return Err(ReasonError::WordsMissing);
        }
        if text.chars().count() > TEXT_LIMIT_CHARS {
            return Err(ReasonError::TooLong);
        }
        Ok(Self {
            code,
            text: text.to_owned(),
        })
    }

    /// The code.
    pub fn code(&self) -> ReturnCode {
        self.code
    }

    /// The words; empty where the code says enough.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Both, as the timeline shows them.
    pub fn timeline_note(&self) -> String {
        if self.text.is_empty() {
            self.code.label().to_owned()
        } else {
            format!("{}：{}", self.code.label(), self.text)
        }
    }
}

impl ReasonError {
    /// What to do, for the reviewer.
    pub fn page_text(self) -> String {
        match self {
            Self::UnknownCode => "差戻しの理由を選んでください。".into(),
            Self::WordsMissing => {
                "この理由を選んだときは、どこをどう直せばよいかを書いてください。".into()
            }
            Self::TooLong => {
                format!("差戻しの説明は{TEXT_LIMIT_CHARS}文字以内で書いてください。")
            }
        }
    }
}
