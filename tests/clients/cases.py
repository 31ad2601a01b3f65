"""All cases, by API and name."""

from clients import chat_cases, messages_cases, responses_cases

CASES = {
    (case.api, case.name): case
    for module in (chat_cases, responses_cases, messages_cases)
    for case in (*module.TABLE, *module.MORE)
}
