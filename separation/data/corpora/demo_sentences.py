"""Plain English sentences from a small grammar, in one fixed order: what the demonstration corpus reads aloud."""

import random
import re

TEMPLATES = (
    "{who} {made} {thing} {place}.",
    "{who} {made} {thing} {time}.",
    "{time}, {who} {went} {place}.",
    "{time}, {who} {made} {thing}.",
    "{who} {went} {place} {manner}.",
    "{who} {will} {make} {thing} {soon}.",
    "{will} {who} {make} {thing} {place}?",
    "why did {who} {make} {thing}?",
    "please {make} {thing} {soon}.",
    "there were {count} {things} {place}.",
    "{who} found {count} {things} {place}.",
    "{who} gave {thing} to {who}.",
    "{thing} {place} belongs to {who}.",
    "{who} heard about {thing} {time}.",
    "nobody knew that {who} {made} {thing}.",
    "it was {quality} when {who} {went} {place}.",
)

WORDS = {
    "who": """my brother|her cousin|the old farmer|our neighbour|a young doctor|the judge|your uncle|the quiet student
    |the shy girl|a tall sailor|his mother|the village baker|the new teacher|their driver|the boy in green|my aunt
    |the captain|one of the guards|a famous singer|the other team|Victor|Julia|George|Susan|the king's cook
    |a group of visitors|the chief engineer|the tired nurse|this young painter|our father""",
    "made": """repaired|painted|borrowed|carried|measured|watched|noticed|described|cleaned|admired|dropped|moved
    |pushed|checked|lost|chose|bought|sold|wanted|kept|hid|covered|photographed|avoided""",
    "make": """repair|paint|borrow|carry|measure|watch|find|describe|clean|change|drop|move|push|check|forget
    |choose|buy|sell|examine|keep|hide|cover|photograph|collect""",
    "thing": """the yellow boat|a heavy suitcase|the broken window|a small wooden chair|the garden gate|the blue vase
    |an empty bottle|the last photograph|this huge machine|a leather jacket|the church bell|the oldest piano
    |a box of oranges|that strange object|the kitchen table|the other shovel|a piece of cheese|the silver watch
    |their only map|a bag of rice|the fishing net|the long ladder|a cheap umbrella|his favourite jigsaw
    |the copper pot|the thick rug|one of the flags|the letter from France|an orange bicycle|the garage key""",
    "things": """wild geese|yellow flowers|fresh eggs|wooden crates|young children|old newspapers|green apples
    |grey horses|sharp knives|loose bricks|tall mirrors|cups of tea|dozing cats|rubber tyres|judges|thin blankets
    |cheerful tourists|bicycles|small puddles|paper lanterns""",
    "went": """walked|travelled|hurried|rode|wandered|drove|cycled|returned|waited|arrived|worked|rested|slept|sang
    |danced|argued|shouted|played""",
    "place": """near the river|beside the harbour|behind the station|by the lighthouse|in the market square
    |at the edge of town|on the third floor|under the bridge|in the valley|outside the theatre|at the museum
    |along the beach|in the forest|on the island|at the airport|across from the school|close to the village
    |in the northern hills|by the fountain|inside the castle|at the corner shop|beyond the orchard""",
    "time": """yesterday|this morning|last Thursday|after breakfast|before the storm|in early June|on Sunday evening
    |at noon|every winter|during the holidays|an hour ago|two weeks later|around midnight|long before sunrise
    |at the end of August|later that year|once again|after the concert""",
    "soon": """tomorrow|next week|before lunch|by Friday|in an hour|as soon as possible|on the way home|every Tuesday
    |after the meeting|without any help|for the children|in the spring|once more""",
    "manner": """without a word|in a great hurry|with both dogs|for an hour|all alone|with a smile|in heavy rain
    |despite the cold|in complete silence|to everyone's surprise|for the first time|with three good friends""",
    "will": "will|should|could|would|might|can",
    "count": "two|three|five|seven|eight|nine|twelve|fifteen|twenty|forty|several|about thirty|too many|hardly any",
    "quality": """raining|very dark|still early|getting late|much warmer|snowing|quite foggy|nearly dawn|unusually hot
    |almost midnight""",
}
_CHOICES = {slot: [word.strip() for word in words.split("|")] for slot, words in WORDS.items()}
_SLOT = re.compile(r"\{(\w+)\}")


def first_sentences(count: int) -> list[str]:
    """The first `count` sentences of one fixed order, all distinct; a larger count begins with the same ones.

    The grammar reaches several million sentences; the first 100,000 take about a second.
    """
    # Only `Random.random` is promised to give the same numbers in every Python version; `choice` is not.
    uniform = random.Random(20230).random

    def pick(choices: tuple[str, ...] | list[str]) -> str:
        return choices[int(uniform() * len(choices))]

    drawn: dict[str, None] = {}
    while len(drawn) < count:
        text = _SLOT.sub(lambda slot: pick(_CHOICES[slot[1]]), pick(TEMPLATES))
        drawn[text[0].upper() + text[1:]] = None
    return list(drawn)
