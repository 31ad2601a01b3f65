"""`translator`: short sentences in six languages, each translated by hand into the other five."""

from random import Random

from tunemill.examples.calls import Call, answer, person, system, user

TRANSLATIONS = 100
LANGUAGES = ("English", "German", "French", "Spanish", "Chinese", "Japanese")

# One meaning a row, in the order of LANGUAGES.
SENTENCES: tuple[tuple[str, ...], ...] = (
    (
        "Where is the nearest railway station, please?",
        "Wo ist bitte der nächste Bahnhof?",
        "Où se trouve la gare la plus proche, s'il vous plaît ?",
        "¿Dónde está la estación de tren más cercana, por favor?",
        "请问最近的火车站在哪里？",
        "一番近い駅はどこですか？",
    ),
    (
        "The meeting has been moved to Thursday morning.",
        "Die Besprechung wurde auf Donnerstagvormittag verschoben.",
        "La réunion a été reportée à jeudi matin.",
        "La reunión se ha aplazado al jueves por la mañana.",
        "会议改到星期四上午。",
        "会議は木曜日の午前に変更されました。",
    ),
    (
        "I would like a table for two near the window.",
        "Ich hätte gern einen Tisch für zwei am Fenster.",
        "Je voudrais une table pour deux près de la fenêtre.",
        "Quisiera una mesa para dos cerca de la ventana.",
        "我想要一张靠窗的两人桌。",
        "窓際の二人用の席をお願いします。",
    ),
    (
        "Please keep this medicine out of the reach of children.",
        "Bewahren Sie dieses Medikament für Kinder unzugänglich auf.",
        "Veuillez garder ce médicament hors de la portée des enfants.",
        "Mantenga este medicamento fuera del alcance de los niños.",
        "请将此药品放在儿童接触不到的地方。",
        "この薬は子供の手の届かない所に保管してください。",
    ),
    (
        "Your order will be delivered within three working days.",
        "Ihre Bestellung wird innerhalb von drei Werktagen geliefert.",
        "Votre commande sera livrée sous trois jours ouvrables.",
        "Su pedido se entregará en un plazo de tres días laborables.",
        "您的订单将在三个工作日内送达。",
        "ご注文の商品は三営業日以内にお届けします。",
    ),
    (
        "It has been raining since yesterday evening.",
        "Es regnet seit gestern Abend.",
        "Il pleut depuis hier soir.",
        "Llueve desde ayer por la noche.",
        "从昨天晚上开始一直在下雨。",
        "昨日の夜からずっと雨が降っています。",
    ),
    (
        "We are looking for an engineer with experience in data systems.",
        "Wir suchen eine Ingenieurin mit Erfahrung in Datensystemen.",
        "Nous cherchons une ingénieure ayant de l'expérience dans les systèmes de données.",
        "Buscamos una ingeniera con experiencia en sistemas de datos.",
        "我们正在寻找有数据系统经验的工程师。",
        "データシステムの経験があるエンジニアを探しています。",
    ),
    (
        "The museum is closed on Mondays.",
        "Das Museum ist montags geschlossen.",
        "Le musée est fermé le lundi.",
        "El museo está cerrado los lunes.",
        "博物馆星期一闭馆。",
        "博物館は月曜日が休館です。",
    ),
    (
        "Could you speak a little more slowly?",
        "Könnten Sie bitte etwas langsamer sprechen?",
        "Pourriez-vous parler un peu plus lentement ?",
        "¿Podría hablar un poco más despacio?",
        "您能说慢一点吗？",
        "もう少しゆっくり話していただけますか？",
    ),
    (
        "Thank you very much for your help.",
        "Vielen Dank für Ihre Hilfe.",
        "Merci beaucoup pour votre aide.",
        "Muchas gracias por su ayuda.",
        "非常感谢您的帮助。",
        "ご協力ありがとうございます。",
    ),
)


def translations(rng: Random) -> list[Call]:
    """100 of the 300 possible pairs of a sentence and a direction, no pair twice."""
    pairs = [
        (sentence, source, target)
        for sentence in SENTENCES
        for source in range(len(LANGUAGES))
        for target in range(len(LANGUAGES))
        if source != target
    ]
    return [_call(rng, index, *pair) for index, pair in enumerate(rng.sample(pairs, TRANSLATIONS))]


def _call(rng: Random, index: int, sentence: tuple[str, ...], source: int, target: int) -> Call:
    return Call(
        app="translator",
        model="atlas-mini-1",
        messages=(
            system(f"Translate into {LANGUAGES[target]}. Answer with the translation only."),
            user(sentence[source]),
        ),
        answer=answer(sentence[target]),
        session=f"translate-{index:03d}",
        user=person(rng),
    )
