"""The texts of our messages: what D14 asks of them, and what `svi check` says of wrong ones."""

import re
from pathlib import Path

import pytest

from shared import notices
from shared.errors import SettingsError
from shared.models import Route
from shared.outbox import TemplateError
from shared.resets import Template
from sms import gsm7
from sms.templates import BY_MAIL, DEFAULT_FILE, LONGEST, LONGEST_SUBJECT, Templates, check

GOOD = "Caf : {password}. Ne le donnez à personne."
NOTICES = """\
[code]
sender = "Caf"
text = "{code} {minutes}"
[code.mail]
subject = "Code"
text = "{code} {minutes}"
[code-old-mobile]
sender = "Caf"
text = "{code} {minutes}"
[web-account-created]
sender = "Caf"
text = "Bonjour"
mail = {subject = "Compte", text = "Bonjour"}
[provisional-identifier]
sender = "Caf"
text = "P{digits}"
mail = {subject = "Identifiant", text = "P{digits}"}
"""
OTHER = f'[password-old-mobile]\nsender = "Caf"\ntext = "{GOOD}"\n{NOTICES}'


@pytest.fixture(scope="module")
def texts() -> Templates:
    return Templates.load()


@pytest.mark.parametrize("template", LONGEST)
def test_every_text_of_ours_is_one_sms(texts: Templates, template: str) -> None:
    assert len(gsm7.payloads(texts.render(template, LONGEST[template]).text, 0)) == 1


def test_no_text_has_both_number_and_password() -> None:
    """D14: what a template is filled with is fixed here, whatever its text asks for."""
    for variables in LONGEST.values():
        assert not {"password", "digits"} <= variables.keys()


def test_what_is_no_number_is_written_in_gsm7(texts: Templates) -> None:
    text = texts.render(
        notices.Template.CODE, {"code": "012345", "minutes": "près de dix, peut-être"}
    ).text
    assert "près de dix, peut-etre minutes" in text


@pytest.mark.parametrize("template", [Template.PASSWORD, Template.PASSWORD_OLD_MOBILE])
def test_our_texts_obey_d14(texts: Templates, template: Template) -> None:
    text = texts.render(template, {"password": "01234567"}).text
    assert "0123 4567" in text
    assert "jamais" in text or "à personne" in text
    assert "Appelez le 3230" in text
    assert "http" not in text
    assert "www" not in text
    assert texts.sender(template) == "Caf"


def test_the_old_mobile_is_told_of_the_change(texts: Templates) -> None:
    """D04: whoever reads this is warned of a change that may not be theirs."""
    text = texts.render(Template.PASSWORD_OLD_MOBILE, {"password": "01234567"}).text
    assert "mobile a changé récemment" in text


@pytest.mark.parametrize("template", [notices.Template.CODE, notices.Template.CODE_OLD_MOBILE])
def test_a_code_is_brought_with_a_warning(texts: Templates, template: notices.Template) -> None:
    """R15, D14: the code in groups, how long it lives, whom to call."""
    text = texts.render(template, {"code": "012345", "minutes": "10"}).text
    assert "012 345" in text
    assert "10 minutes" in text
    assert "à personne" in text
    assert "Appelez le 3230" in text


def test_the_account_that_was_made_is_announced(texts: Templates) -> None:
    """R23: log in with the NIR from now on; no NIR and no password in it (D14)."""
    text = texts.render(notices.Template.ACCOUNT_CREATED, {}).text
    assert "compte est créé" in text
    assert "numéro de sécurité sociale" in text
    assert "Appelez le 3230" in text


def test_a_provisional_identifier_is_to_be_kept(texts: Templates) -> None:
    """R22; R20: it is what one logs in with."""
    text = texts.render(notices.Template.PROVISIONAL, {"digits": "01234567"}).text
    assert "identifiant provisoire est P0123 4567" in text
    assert "Gardez-le" in text
    assert "mot de passe" not in text  # D14: never together
    assert "Appelez le 3230" in text


# By mail


@pytest.fixture(scope="module")
def mails() -> Templates:
    return Templates.load(route=Route.MAIL)


@pytest.mark.parametrize("template", BY_MAIL)
def test_our_mails_obey_d14_at_more_length(mails: Templates, template: notices.Template) -> None:
    text = mails.render(template, LONGEST[template]).text
    assert text.startswith("Bonjour,\n\n")
    assert re.search(r"(?i)appelez [a-z ]*le 3230", text)
    assert "http" not in text
    assert "www" not in text
    assert mails.sender(template) == "Caf"
    assert mails.subject(template)


def test_a_code_by_mail(mails: Templates) -> None:
    """R15: the code in groups, how long it lives."""
    text = mails.render(notices.Template.CODE, {"code": "012345", "minutes": "15"}).text
    assert "est : 012 345\n" in text
    assert "valable 15 minutes" in text
    assert "jamais, à personne" in text


def test_a_mail_is_written_in_french_letter_for_letter(mails: Templates) -> None:
    variables = {"code": "012345", "minutes": "peut-être « dix »"}
    text = mails.render(notices.Template.CODE, variables).text
    assert "peut-être « dix » minutes" in text


BY_SMS_ALONE = [*(name for name in LONGEST if name not in BY_MAIL), "notice.rendez-vous"]


@pytest.mark.parametrize("template", BY_SMS_ALONE)
def test_what_never_goes_by_mail_can_not(texts: Templates, mails: Templates, template: str) -> None:
    """R10: a password goes by SMS; so does what clients of the API have sent."""
    with pytest.raises(TemplateError, match=f"template {template}: unknown"):
        mails.render(template, texts.longest[template])


def test_an_sms_has_no_subject(texts: Templates) -> None:
    assert texts.subject(notices.Template.CODE) == ""


MAIL = 'subject = "Code"\ntext = "{code} {minutes}"'
WRONG_MAILS = {
    "no link": (f'{MAIL[:-1]} https://caf.fr"', "code.mail.text: pas d'adresse"),
    "no variable": (MAIL.replace("{minutes}", "dix"), "code.mail.text: il faut les variables"),
    "another variable": (MAIL.replace("{minutes}", "{nir}"), "code.mail.text: il faut les variab"),
    "a link in the subject": (MAIL.replace("Code", "Sur x.fr"), "code.mail.subject: pas d'adresse"),
    "a code in the subject": (
        MAIL.replace("Code", "{code}"),
        "code.mail.subject: un objet n'a pas de variable",
    ),
    "a header after it": (
        MAIL.replace("Code", "Code\\r\\nBcc: a"),
        "code.mail.subject: il faut une ligne de 1 à 60 caractères",
    ),
    "no subject in it": (MAIL.replace("Code", ""), "code.mail.subject: il faut une ligne"),
    "too long a subject": (MAIL.replace("Code", "a" * 61), "code.mail.subject: il faut une ligne"),
    "no subject": ('text = "{code} {minutes}"', "code.mail: il faut subject et text"),
    "a key too many": (f'{MAIL}\nhtml = "a"', "code.mail: il faut subject et text"),
    "a number": (MAIL.replace('"Code"', "1"), "code.mail: il faut subject et text"),
}


@pytest.mark.parametrize(("mail", "finding"), WRONG_MAILS.values(), ids=WRONG_MAILS)
def test_a_wrong_mail_is_refused(tmp_path: Path, mail: str, finding: str) -> None:
    path = written(tmp_path, f'[password]\nsender = "Caf"\ntext = "{GOOD}"', OTHER)
    path.write_text(path.read_text("utf-8").replace(f"[code.mail]\n{MAIL}", f"[code.mail]\n{mail}"))
    [found] = check(path)
    assert found.startswith(f"{path}: {finding}")
    with pytest.raises(SettingsError, match=r"code\.mail"):
        Templates.load(path, Route.MAIL)


def test_a_mail_that_is_missing_or_never_sent(tmp_path: Path) -> None:
    password = f'[password]\nsender = "Caf"\ntext = "{GOOD}"'
    path = written(tmp_path, password, OTHER.replace(f"[code.mail]\n{MAIL}\n", ""))
    assert check(path) == [
        f"{path}: code.mail: il faut subject et text, deux textes entre guillemets"
    ]
    path = written(tmp_path, f'{password}\nmail = {{subject = "a", text = "{{password}}"}}')
    assert check(path) == [f"{path}: password.mail: ce modèle ne part pas par courriel"]


def test_the_longest_subject_is_taken(tmp_path: Path) -> None:
    longest = OTHER.replace('"Code"', f'"{"é" * LONGEST_SUBJECT}"')
    path = written(tmp_path, f'[password]\nsender = "Caf"\ntext = "{GOOD}"', longest)
    assert check(path) == []


VERSIONED = {  # what is changed, and whether the SMS and the mail say something else then
    "nothing": ("Code", "Code", (False, False)),
    "the sender": ('[code]\nsender = "Caf"', '[code]\nsender = "MaCaf"', (True, True)),
    "the SMS": ('{minutes}"\n[code.mail]', '{minutes}."\n[code.mail]', (True, False)),
    "the subject": ('subject = "Code"', 'subject = "Codes"', (False, True)),
    "the mail": (MAIL, f'{MAIL[:-1]}."', (False, True)),
    "another template": (GOOD, f"{GOOD}.", (False, False)),
    "a comment": ("[code]", "# R15\n[code]", (False, False)),
}


@pytest.mark.parametrize(("old", "new", "changes"), VERSIONED.values(), ids=VERSIONED)
def test_a_version_names_what_is_said(
    tmp_path: Path, old: str, new: str, changes: tuple[bool, bool]
) -> None:
    path = written(tmp_path, f'[password]\nsender = "Caf"\ntext = "{GOOD}"')

    def versions() -> list[str]:
        variables = LONGEST[notices.Template.CODE]
        by_routes = (Templates.load(path, route) for route in (Route.SMS, Route.MAIL))
        return [texts.render("code", variables).version for texts in by_routes]

    before = versions()
    assert before[0] != before[1]
    content = path.read_text("utf-8")
    assert content.count(old) >= 1
    path.write_text(content.replace(old, new, 1), "utf-8")
    assert tuple(one != other for one, other in zip(before, versions(), strict=True)) == changes


def test_our_file_has_no_fault() -> None:
    assert check(DEFAULT_FILE) == []


def written(folder: Path, password_table: str, others: str = OTHER) -> Path:
    path = folder / "templates.toml"
    path.write_text(f"{password_table}\n{others}", encoding="utf-8")
    return path


FAULTS = {
    "no GSM-7 letter": (GOOD + " Ça va être dur", "hors de l'alphabet GSM-7 : ê"),
    "two such letters": (GOOD + " « œ »", "hors de l'alphabet GSM-7 : « » œ"),
    "one septet too many": ("{password}" + "a" * 152, "161 septets"),
    "two septets each": ("{password}" + "a" * 150 + "€", "161 septets"),
    "no password": ("Caf : bonjour", "il faut les variables {password}"),
    "number and password": (GOOD + " {digits}", "il faut les variables {password}"),
    "unknown variable": (GOOD + " {nom}", "il faut les variables {password}"),
    "an attribute": ("{password.__class__}", "il faut les variables {password}"),
    "a width": ("{password:>200}", "il faut les variables {password}"),
    "a conversion": ("{password!r}", "il faut les variables {password}"),
    "no name": ("{}", "il faut les variables {password}"),
    "a brace alone": ("{password} {", "une accolade manque"),
    "an address": (GOOD + " https://caf.fr", "pas d'adresse"),
    "an address without https": (GOOD + " caf.fr/mdp", "pas d'adresse"),
    "www": (GOOD + " www.caf.fr", "pas d'adresse"),
    "another domain": (GOOD + " Voir aides-caf.fr.", "pas d'adresse"),
    "a longer domain": (GOOD + " Voir caf.fr.example", "pas d'adresse"),
    "a mail address": (GOOD + " contact@exemple.org", "pas d'adresse"),
    "no space after a sentence": (GOOD + "Caf.Appelez", "pas d'adresse"),
}


@pytest.mark.parametrize(("text", "finding"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_text_is_refused(tmp_path: Path, text: str, finding: str) -> None:
    path = written(tmp_path, f'[password]\nsender = "Caf"\ntext = "{text}"')
    [found] = check(path)
    assert found.startswith(f"{path}: password.text: {finding}")
    with pytest.raises(SettingsError, match=r"password\.text"):
        Templates.load(path)


RIGHT = {
    "the longest": "{password}" + "a" * 151,
    "many words that are no domain": "{password}" + "a-" * 75,
    "the bare word": GOOD + " Voir caf.fr.",
    "a brace that is doubled": "{password} {{x}}",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_a_right_text_is_taken(tmp_path: Path, text: str) -> None:
    assert check(written(tmp_path, f'[password]\nsender = "Caf"\ntext = "{text}"')) == []


@pytest.mark.parametrize("sender", ["", "Caf Nanterre", "Allocations12", "Été", "Caf!"])
def test_a_wrong_sender_is_refused(tmp_path: Path, sender: str) -> None:
    path = written(tmp_path, f'[password]\nsender = "{sender}"\ntext = "{GOOD}"')
    assert check(path) == [
        f"{path}: password.sender: il faut 1 à 11 lettres sans accent ou chiffres"
    ]


SHAPES = {
    "a text missing": ('[password]\nsender = "Caf"', OTHER, "password: il faut sender et text"),
    "a key too many": (
        f'[password]\nsender = "Caf"\ntext = "{GOOD}"\nlang = "fr"',
        OTHER,
        "password: il faut sender et text",
    ),
    "a number": ("[password]\nsender = 3230\ntext = 1", OTHER, "password: il faut sender et text"),
    "a template missing": (
        f'[password]\nsender = "Caf"\ntext = "{GOOD}"',
        NOTICES,
        "password-old-mobile: il faut sender et text",
    ),
    "a template too many": (
        f'[password]\nsender = "Caf"\ntext = "{GOOD}"\n[rappel]',
        OTHER,
        "rappel: modèle inconnu",
    ),
    "no TOML": ("[password", "", "n'est pas du TOML"),
}


@pytest.mark.parametrize(("table", "others", "finding"), SHAPES.values(), ids=SHAPES)
def test_a_file_of_another_shape_is_refused(
    tmp_path: Path, table: str, others: str, finding: str
) -> None:
    path = written(tmp_path, table, others)
    [found] = check(path)
    assert found.startswith(f"{path}: {finding}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    [found] = check(tmp_path / "none.toml")
    assert found == f"{tmp_path / 'none.toml'}: ne peut pas être lu : No such file or directory"


def test_what_can_not_be_written_is_an_error_of_its_own(texts: Templates) -> None:
    """A message of a newer version must not stop a dispatcher."""
    with pytest.raises(TemplateError, match="template campaign: unknown"):
        texts.render("campaign", {"password": "83927415"})
    with pytest.raises(TemplateError, match="template campaign: unknown"):
        texts.sender("campaign")
    with pytest.raises(TemplateError, match="template password: the message lacks a variable"):
        texts.render(Template.PASSWORD, {"code": "839274"})
