"""What the clinic's agents answer in the sandbox."""

_BY_WORD = (
    (("preço", "valor", "custa", "quanto"), (
        "A consulta de avaliação custa R$ 250 e é abatida do tratamento, se você decidir fazer. 😊",
        "O valor depende da avaliação, mas já te passo a tabela. Parcelamos em até 10x sem juros.",
        "Temos pacotes a partir de R$ 390. Quer que eu envie as opções?",
    )),
    (("horário", "agendar", "marcar", "agenda", "vaga", "consulta"), (
        "Claro! Tenho quinta às 14h30 ou sexta às 10h. Qual fica melhor para você?",
        "Consigo te encaixar amanhã às 9h20. Posso confirmar?",
        "Prontinho, deixei um horário reservado para terça às 16h. Me confirma seu nome completo?",
    )),
    (("dói", "dor", "doer", "ardendo", "vermelh", "inchad", "alergia"), (
        "Um leve incômodo é esperado nas primeiras 48 horas. Se piorar, nos avise que a doutora te liga.",
        "Vou passar para a doutora agora mesmo. Pode me mandar uma foto da região, por favor?",
    )),
    (("endereço", "onde", "estacionamento", "chegar"), (
        "Ficamos na Rua das Figueiras, 120, sala 34, pertinho do metrô. O prédio tem estacionamento. 🌿",
    )),
    (("convênio", "plano"), (
        "Atendemos particular e emitimos recibo para reembolso do seu convênio.",
    )),
    (("obrigad", "valeu"), (
        "Nós que agradecemos! Qualquer coisa é só chamar. 💚",
        "Imagina! Tenha um ótimo dia. ☀️",
    )),
)  # fmt: skip
_OTHERWISE = (
    "Oi! Que bom falar com você. Como posso ajudar?",
    "Entendi! Vou verificar com a equipe e já te respondo.",
    "Perfeito, anotei aqui. Mais alguma dúvida?",
    "Pode deixar! Se preferir, também te ligamos ainda hoje.",
    "Claro, me conta um pouquinho mais para eu te orientar melhor.",
)


def reply(text: str, turn: int) -> str:
    """An agent's answer to a customer's text; `turn` varies it."""
    lowered = text.casefold()
    choices = next((found for words, found in _BY_WORD if any(word in lowered for word in words)), _OTHERWISE)
    return choices[turn % len(choices)]
