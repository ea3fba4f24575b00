"""Patients for the demo: twelve invented people who write to a dermatology clinic now and then.

``python -m deploy.sandbox.patients --control http://127.0.0.1:PORT --phone-number-id ID --rate 0.5``
"""

import argparse
import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from deploy.sandbox import keepsakes

# 55 11 9 0000 00NN: numbers that are given to nobody.
PEOPLE = tuple(
    (f"55119000000{index:02d}", name)
    for index, name in enumerate(
        (
            "Mariana Lopes", "João Pedro Reis", "Cláudia Antunes", "Rafael Moura", "Sônia Figueiredo",
            "Beatriz Camargo", "Antônio Sá", "Larissa Prado", "Gustavo Nóbrega", "Helena Brandão",
            "Igor Vasconcelos", "Tereza Cristina Luz",
        ),
        start=1,
    )
)  # fmt: skip

OPENINGS = (
    "Oi, bom dia! Queria marcar uma consulta com a dermatologista 😊",
    "Boa tarde, quanto custa a aplicação de botox na testa?",
    "Olá! Vocês fazem limpeza de pele? Qual o valor?",
    "Oi, tenho uma mancha nova nas costas e fiquei preocupada. Consigo vaga essa semana?",
    "Bom dia, preciso remarcar minha sessão de laser de quinta-feira",
    "Oi! Fiz o peeling ontem e meu rosto está bem vermelho, é normal?",
    "Vocês atendem por convênio?",
    "Boa noite, sei que já fecharam, mas queria saber o preço da depilação a laser na perna inteira",
    "Olá, minha filha de 14 anos está com muita acne. Atendem adolescentes?",
    "Oi, vi vocês no Instagram! Como funciona o preenchimento labial?",
    "Bom dia! Vocês têm estacionamento?",
    "Preciso de uma segunda via do meu recibo pra reembolso, por favor",
    "Oi, o ácido que a doutora passou está ardendo muito, posso continuar usando?",
    "Gostaria de saber se tratam queda de cabelo. Estou perdendo bastante desde julho",
    "Boa tarde! Microagulhamento dói?",
    "Oi, tudo bem? Quero agendar avaliação para harmonização facial",
    "Olá, recebi uma mensagem de vocês sobre o retorno. Ainda dá pra marcar esse mês?",
    "Bom dia, tirei uns pontos aí na segunda e a região está inchada",
    "Vcs parcelam o pacote de 10 sessões?",
    "Oi! Presente de aniversário pra minha mãe: vocês têm vale-presente?",
    "Tenho melasma há anos, já tentei de tudo 😔 vocês têm algum tratamento?",
    "Boa tarde, estou grávida de 5 meses. Posso fazer limpeza de pele?",
)
FOLLOW_UPS = (
    "Pode ser, qual o primeiro horário da manhã?",
    "Perfeito, obrigada!",
    "E precisa de algum preparo antes?",
    "Consigo só depois das 18h, tem?",
    "Quanto tempo demora mais ou menos?",
    "Posso pagar no pix?",
    "Entendi. Vou falar com meu marido e te aviso",
    "Tem alguma vaga no sábado?",
    "Qual é o endereço mesmo?",
    "Posso tomar sol depois?",
    "É com a Dra. Paula? Prefiro com ela",
    "Show, pode confirmar então 👍",
    "Hmm, achei um pouco caro… tem desconto à vista?",
    "Já sou paciente de vocês, meu cadastro está no CPF da minha mãe",
    "Mandei a foto por e-mail, conseguem ver?",
    "Ah, e tenho alergia a dipirona, precisa anotar?",
    "Ok, combinado. Até quinta!",
    "Desculpa a demora, estava no trabalho",
    "Precisa levar os exames antigos?",
    "Valeu, vocês são ótimos! 💚",
)


MORE_THAN_WORDS = 0.3
"""The share of follow-ups that are a file, a place or a pressed button."""


def photo(chance: random.Random) -> dict[str, Any]:
    caption = chance.choice(("Olha como está hoje", "É essa mancha aqui", "Ficou assim depois do peeling"))
    file = keepsakes.told(keepsakes.photo(chance), "image/png", caption=caption)
    return {"message": {"type": "image"}, "media": file}


def voice(chance: random.Random) -> dict[str, Any]:
    file = keepsakes.told(keepsakes.voice(chance.randint(2, 9)), "audio/ogg; codecs=opus", voice=True)
    return {"message": {"type": "audio"}, "media": file}


def document(_: random.Random) -> dict[str, Any]:
    data = keepsakes.pdf("Laboratório Aurora", "Hemograma completo", "Sem alterações.")
    file = keepsakes.told(data, "application/pdf", filename="exame.pdf", caption="Meu exame mais recente")
    return {"message": {"type": "document"}, "media": file}


def location(_: random.Random) -> dict[str, Any]:
    place = {
        "latitude": -23.5614,
        "longitude": -46.6559,
        "name": "MASP",
        "address": "Av. Paulista, 1578 - São Paulo",
    }
    return {"message": {"type": "location", "location": place}}


def button(chance: random.Random) -> dict[str, Any]:
    title = chance.choice(("Confirmo", "Quero remarcar"))
    pressed = {
        "type": "button_reply",
        "button_reply": {"id": title.lower().replace(" ", "-"), "title": title},
    }
    return {"message": {"type": "interactive", "interactive": pressed}}


Making = Callable[[random.Random], dict[str, Any]]
MORE: tuple[Making, ...] = (photo, photo, voice, document, location, button)


@dataclass
class Patient:
    """One person: an opening, then some follow-ups, then the next subject."""

    wa_id: str
    name: str
    left: int = field(default=0)

    def next_message(self, chance: random.Random) -> dict[str, Any]:
        """What ``/control/patient`` is told: words, or something else now and then."""
        if self.left == 0:
            self.left = chance.randint(1, 4)
            return {"text": chance.choice(OPENINGS)}
        self.left -= 1
        if chance.random() < MORE_THAN_WORDS:
            return chance.choice(MORE)(chance)
        return {"text": chance.choice(FOLLOW_UPS)}


async def talk(control_url: str, phone_number_id: str, rate: float, stop: asyncio.Event) -> int:
    """Let the patients write until `stop` is set.

    Args:
        control_url: the sandbox's base URL, e.g. ``http://127.0.0.1:9000``.
        phone_number_id: the clinic's number; its callback must be configured.
        rate: messages a second, over all patients.

    Returns:
        How many messages the sandbox took. A sandbox that cannot be reached is tried again.
    """
    if rate <= 0:
        raise ValueError("rate must be more than 0 messages a second")
    chance = random.Random()
    patients = [Patient(wa_id, name) for wa_id, name in PEOPLE]
    sent = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        while not stop.is_set():
            patient = chance.choice(patients)
            message = {
                "phone_number_id": phone_number_id,
                "from": patient.wa_id,
                "name": patient.name,
                "wait": False,
                **patient.next_message(chance),
            }
            sent += await _write(session, f"{control_url}/control/patient", message)
            await _pause(stop, chance.uniform(0.5, 1.5) / rate)
    return sent


async def _write(session: aiohttp.ClientSession, url: str, message: dict[str, object]) -> bool:
    try:
        async with session.post(url, json=message) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.sandbox.patients", description=__doc__)
    parser.add_argument("--control", required=True, help="base URL of the sandbox")
    parser.add_argument("--phone-number-id", required=True)
    parser.add_argument("--rate", type=float, default=0.5, help="messages a second")
    given = parser.parse_args()
    try:
        asyncio.run(talk(given.control, given.phone_number_id, given.rate, asyncio.Event()))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
