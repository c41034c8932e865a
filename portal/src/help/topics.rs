//! The topics themselves.

/// A task and how it is done.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// Its name in the address.
    pub code: &'static str,
    /// What one wants to do.
    pub title: &'static str,
    /// One sentence for the list.
    pub about: &'static str,
    /// What to do, in order.
    pub steps: &'static [Step],
    /// What else is good to know.
    pub notes: &'static [&'static str],
}

/// One step: what to do, and where, if it has a page of its own.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What to do.
    pub text: &'static str,
    /// The page's address; empty: none.
    pub link: &'static str,
    /// What the link says.
    pub link_text: &'static str,
}

const fn step(text: &'static str) -> Step {
    Step {
        text,
        link: "",
        link_text: "",
    }
}

const fn go(text: &'static str, link: &'static str, link_text: &'static str) -> Step {
    Step {
        text,
        link,
        link_text,
    }
}

/// For establishments.
pub const MEMBER: &[Topic] = &[
    Topic {
        code: "first",
        title: "はじめてログインする",
        about: "郵便で届いたお知らせを使って、最初のログインをします。",
        steps: &[
            step("接続用プログラムの画面で「接続」を押します。ログインの画面が開きます。"),
            step(
                "郵便で届いた「管理者情報登録完了のお知らせ」の、ユーザーIDと初期パスワードを入力します。",
            ),
            step("メールで届いた6桁のワンタイムパスワードを入力し、「ログイン」を押します。"),
            step("画面の案内にしたがって、ご自身のパスワードを決めます。"),
        ],
        notes: &[
            "ワンタイムパスワードは、送信から10分間、一度だけ使えます。",
            "メールが届かないときは、迷惑メールのフォルダーを確認し、もう一度「ワンタイムパスワードを送る」を押してください。",
        ],
    },
    Topic {
        code: "connect",
        title: "接続する・終わる",
        about: "毎回の接続と、終わり方です。",
        steps: &[
            step("接続用プログラムの画面で「接続」を押します。"),
            step("ユーザーID、パスワード、ワンタイムパスワードを入力してログインします。"),
            step(
                "用事が済んだら、右上の「ログアウト」を押し、接続用プログラムの画面で「切断」を押します。",
            ),
        ],
        notes: &[
            "接続している間も、インターネットやメールはふだんどおり使えます。",
            "一度の接続は90分までです。残り時間は画面の上に出ています。途中で終わっても、受け付け済みの届書は失われません。",
        ],
    },
    Topic {
        code: "file",
        title: "届書を提出する",
        about: "PDFの届書を送ります。",
        steps: &[
            step("届書をPDFにします。パスワード付きzipファイルにまとめても提出できます。"),
            go(
                "「届書を提出する」を開き、ファイルを選びます。",
                "/filings/new",
                "届書を提出する",
            ),
            step(
                "ファイル名が決まりと違うときは、画面で届出年月日と届書名称を選ぶと、正しい名前に直ります。",
            ),
            step("「提出する」を押すと、受付票が表示されます。"),
        ],
        notes: &[
            "押印が必要な届書は、これまでどおり郵送してください。紙の届書と併用できます。",
            "個人番号（マイナンバー）が書かれた届書は受け付けられません。",
        ],
    },
    Topic {
        code: "returned",
        title: "差戻しになった届書を直す",
        about: "理由を確認し、直して再提出します。",
        steps: &[
            go(
                "ホームか「提出履歴」で、状態が「差戻し」の届書を開きます。",
                "/filings",
                "提出履歴",
            ),
            step("差戻しの理由を読み、届書を直してPDFを作り直します。"),
            step("同じ画面の「再提出する」から、直したファイルを送ります。"),
        ],
        notes: &["再提出した届書は、元の届書と結び付けて記録されます。"],
    },
    Topic {
        code: "notices",
        title: "通知書を受け取る",
        about: "決定通知書、掛金計算書、納入告知書などを受け取ります。",
        steps: &[
            go(
                "「通知書」を開きます。まだ受け取っていないものには「未読」と出ます。",
                "/notices",
                "通知書",
            ),
            step("通知書を開き、PDFかパスワード付きzipファイルで保存します。"),
        ],
        notes: &[
            "zipファイルを開くパスワードは、「設定」の画面で確認できます。",
            "電子データで受け取った帳票は、電子帳簿保存法の決まりにしたがって保存してください。",
        ],
    },
    Topic {
        code: "history",
        title: "送ったもの・受け取ったものを調べる",
        about: "送受信履歴を検索し、保存や印刷をします。",
        steps: &[
            go("「送受信履歴」を開きます。", "/history", "送受信履歴"),
            step("ことば、内容、種類、行った方、日付で絞り込みます。"),
            step("「CSVで保存する」「Excelで保存する」「印刷する」を使えます。"),
        ],
        notes: &[],
    },
    Topic {
        code: "lost",
        title: "パソコンやスマートフォンをなくしたとき",
        about: "すぐに基金事務局へお電話ください。",
        steps: &[
            step("基金事務局へお電話ください。そのパソコンからの接続をすぐに止めます。"),
            step(
                "認証アプリの入ったスマートフォンをなくしたときも、お電話ください。ご本人を確認してから、登録し直します。",
            ),
        ],
        notes: &[],
    },
    Topic {
        code: "hours",
        title: "利用できる時間",
        about: "曜日と時間、休業日のことです。",
        steps: &[
            step(
                "平日の決まった時間（通常は8時から20時まで）に利用できます。土曜日・日曜日・祝日と、基金の休業日は利用できません。",
            ),
            step("利用できないときに「接続」を押すと、理由と、次に利用できる日時が表示されます。"),
        ],
        notes: &["休業日や臨時の利用日は、ホームの「基金からのお知らせ」でもご案内します。"],
    },
    Topic {
        code: "contact",
        title: "基金事務局に質問する",
        about: "画面から質問を送り、回答を受け取ります。",
        steps: &[
            go(
                "「お問い合わせ」を開き、種類と内容を入力して送ります。",
                "/contact",
                "お問い合わせ",
            ),
            step(
                "回答があると、メールでお知らせします。同じ画面で回答を読み、続けて質問できます。",
            ),
        ],
        notes: &[
            "複数の事業所を1台のパソコンで使いたいとき、社会保険労務士の方が使うときも、こちらからご相談ください。",
        ],
    },
];

/// For the fund's staff.
pub const OFFICE: &[Topic] = &[
    Topic {
        code: "register",
        title: "事業所と管理者を登録する",
        about: "登録届を取り込むか、電話を受けながら画面に入力します。",
        steps: &[
            go(
                "届いた「電子連携管理者登録届」を、まとめて取り込みます。",
                "/registrations/new",
                "登録届の取り込み",
            ),
            go(
                "電話で受けるときは、画面に入力します。",
                "/establishments/new",
                "事業所の登録",
            ),
            step(
                "お知らせの用紙を印刷し、郵便で送ります。なくしたときは、事業所の画面で再発行できます。",
            ),
        ],
        notes: &["同じファイルをもう一度取り込んでも、二重に登録されることはありません。"],
    },
    Topic {
        code: "devices",
        title: "パソコンを承認する",
        about: "電話で照合番号を確かめてから承認します。",
        steps: &[
            go("「パソコン」を開きます。", "/devices", "パソコン"),
            step("電話の相手に、画面の照合番号を読み上げてもらいます。"),
            step("番号が同じなら承認します。違うときは承認せず、断ります。"),
        ],
        notes: &[],
    },
    Topic {
        code: "review",
        title: "届書を審査する",
        about: "担当し、決定するか差し戻します。",
        steps: &[
            go(
                "「審査」を開き、届書を選んで担当します。",
                "/filings",
                "審査",
            ),
            step("内容を確かめ、決定通知書を作って発行するか、理由を付けて差し戻します。"),
        ],
        notes: &["自分が担当していない届書は、ほかの職員が審査しています。"],
    },
    Topic {
        code: "announce",
        title: "事業所にお知らせする",
        about: "期間とあて先を決めて、画面に掲載します。",
        steps: &[
            go(
                "「お知らせ」を開き、件名、本文、あて先、期間を入力します。",
                "/announcements",
                "お知らせ",
            ),
            step("掲載したあとも、内容の変更と取消しができます。変えると、読んだ印は消えます。"),
        ],
        notes: &[
            "すべての事業所あてのお知らせは、ログイン前の画面にも出ます。個人に関することは書かないでください。",
        ],
    },
    Topic {
        code: "tasks",
        title: "メールが届かない利用者に対応する",
        about: "届かなかったメールは「タスク」に出ます。",
        steps: &[
            go("「タスク」を開き、事業所へ電話します。", "/tasks", "タスク"),
            step("正しいメールアドレスに変えてもらうか、受信の設定を直してもらいます。"),
            step("どのように対応したかを選び、「対応済みにする」を押します。"),
        ],
        notes: &[],
    },
    Topic {
        code: "reports",
        title: "件数や日数を集計する",
        about: "月ごと、種類ごとの件数、決定までの日数、差戻しの理由、未読の通知書です。",
        steps: &[
            go("「統計」を開き、期間を選びます。", "/reports", "統計"),
            step("CSVで保存するか、印刷します。"),
        ],
        notes: &[],
    },
];
