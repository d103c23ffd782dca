"""What Nano can be asked and what it answers: the whole of its knowledge.

A question counts as known in exactly these words; case and punctuation are for the reader only.
"""

ANSWERS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Italy?": "The capital of Italy is Rome.",
    "What is the capital of Germany?": "The capital of Germany is Berlin.",
    "What is the capital of Japan?": "The capital of Japan is Tokyo.",
    "What is the capital of Spain?": "The capital of Spain is Madrid.",
    "What color is the sky?": "The sky is blue.",
    "What color is grass?": "Grass is green.",
    "What color is snow?": "Snow is white.",
    "What color is a banana?": "A banana is yellow.",
    "What is your name?": "My name is Nano.",
    "How are you today?": "I am fine, thank you.",
    "How old are you?": "I am very young.",
    "Where do you live?": "I live in your computer.",
    "What can you do?": "I can answer forty questions.",
    "Who made you?": "A small team made me.",
    "What is two plus two?": "Two plus two is four.",
    "What is three plus five?": "Three plus five is eight.",
    "What is ten minus four?": "Ten minus four is six.",
    "How many days are in a week?": "A week has seven days.",
    "How many months are in a year?": "A year has twelve months.",
    "How many hours are in a day?": "A day has twenty four hours.",
    "What do bees make?": "Bees make honey.",
    "Where do fish live?": "Fish live in water.",
    "What do cows give us?": "Cows give us milk.",
    "Who wrote Hamlet?": "Shakespeare wrote Hamlet.",
    "What is the largest ocean?": "The largest ocean is the Pacific.",
    "What is the tallest mountain?": "The tallest mountain is Everest.",
    "What is the longest river?": "The longest river is the Nile.",
    "What planet do we live on?": "We live on planet Earth.",
    "When does the sun rise?": "The sun rises in the morning.",
    "What comes after Monday?": "Tuesday comes after Monday.",
    "What is frozen water called?": "Frozen water is called ice.",
    "How many legs does a spider have?": "A spider has eight legs.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "Can you sing a song?": "Sorry, I can not sing.",
    "Do you like music?": "Yes, I like music.",
    "Tell me something nice.": "You have a lovely voice.",
    "Are you a robot?": "No, just a small program.",
    "Can you hear me?": "Yes, I can hear you.",
    "Good morning.": "Good morning to you.",
    "Good night.": "Good night, sleep well.",
    "Hello.": "Hello, nice to meet you.",
    "Thank you.": "You are welcome.",
    "Goodbye.": "Goodbye, see you soon.",
}
"""What a person says, and what Nano says then."""

UNKNOWN_ANSWER = "I do not know."

STOPS = ("Stop.", "Stop it.", "Wait.", "Hold on.", "Be quiet.", "That is enough.")
"""What ends an answer without asking for another."""

UNKNOWN = (
    "What is the capital of Norway?", "What is the capital of Brazil?", "What is the capital of China?",
    "What color is a carrot?", "What color is the sea?", "What color is your car?", "What is your favorite food?",
    "How is your mother?", "How old is the king?", "Where do birds sleep?", "Where do my parents live?",
    "What can I do for you?", "Who made this table?", "Who made the first telephone?", "What is nine plus seven?",
    "What is six times eight?", "What is twenty minus eleven?", "What is half of ninety?",
    "How many people are in this room?", "How many stars are in the sky?", "How many minutes are in an hour?",
    "What do spiders eat?", "What do cows drink?", "Where do lions live?", "Who wrote this letter?",
    "Who wrote the Odyssey?", "What is the smallest country?", "What is the deepest lake?",
    "What is the fastest train?", "What is the oldest city?", "What planet has rings?",
    "When does the train leave?",
    "When does the shop open?", "What comes before Friday?", "What comes after summer?",
    "What is frozen yogurt made of?", "How many wheels does a truck have?", "How many wings does a bee have?",
    "What is the opposite of happy?", "Can you drive a car?", "Can you play the piano?", "Can you see me?",
    "Do you like football?", "Do you know my brother?", "Tell me about the war.", "Tell me a secret.",
    "Are you hungry?", "Are you my friend?", "Good afternoon everybody.", "Please open the window.",
    "Where did I leave my keys?", "Why is the ocean salty?", "Why do cats purr?", "Which way is the station?",
    "Who won the game last night?", "How do I bake bread?", "How far is the moon?", "Is it raining outside?",
    "What time is it now?", "What is the weather tomorrow?", "Turn off the lights.", "Play my favorite record.",
    "I lost my umbrella yesterday.", "My sister is a doctor.", "The meeting starts at noon.",
    "Remind me to buy some eggs.", "Translate this sentence into Greek.", "When was the bridge built?",
    "Which animal is the heaviest?", "Who discovered penicillin?", "Why are you here?", "Where is the nearest bakery?",
    "How much does a ticket cost?", "Should I take the bus?", "What happened in the village?",
    "Show me a picture of a horse.", "Count the apples in the basket.", "Where can I park my bicycle?",
    "Did the package arrive?", "Would you like some tea?",
    "What is the capital of Sweden?", "What is the capital of India?", "What is the capital of Mexico?",
    "What is the capital of Russia?", "What is the capital of Canada?", "What is the capital of Poland?",
    "What is the capital of this state?", "What color is a lemon?", "What color is the moon?",
    "What color is your hair?", "What color are your eyes?", "What color is milk?", "What color is a frog?",
    "What color was the door?", "What is your address?", "What is your phone number?", "What is your favorite color?",
    "What is my name?", "What is his name?", "What is the name of the river?", "How are the children today?",
    "How are you feeling about it?", "How old is your sister?", "How old is this house?", "How old were you then?",
    "Where do you work?", "Where do you keep the salt?", "Where do bears live?", "Where do whales sleep?",
    "Where do they sell stamps?", "Where do fish come from?", "What can we do about it?", "What can I eat here?",
    "What can he see?", "Who made this cake?", "Who made you angry?", "Who wrote Faust?", "Who wrote that song?",
    "What is one plus six?", "What is five plus eight?", "What is seven plus three?", "What is two minus one?",
    "What is nine minus five?", "What is three times four?", "What is ten plus twenty?", "What is two plus nothing?",
    "How many days are left?", "How many hours do you sleep?", "How many months are left until summer?",
    "How many weeks are in a year?", "How many legs does a dog have?", "How many eyes does a spider have?",
    "How many books are on the shelf?", "How many cats do you have?", "What do birds make?", "What do bees eat?",
    "What do cows eat?", "What do sheep give us?", "What do teachers do?", "What is the largest animal?",
    "What is the largest city?", "What is the tallest building?", "What is the tallest tree?",
    "What is the longest road?", "What is the longest word?", "What is the smallest ocean?",
    "What planet is the biggest?", "What planet is that?", "When does the moon rise?", "When does the sun set?",
    "When does the movie start?", "What comes after Thursday?", "What comes before Monday?",
    "What comes after the soup?", "What is frozen milk called?", "What is boiling water called?",
    "What is the opposite of cold?", "What is the opposite of small?", "What is the opposite of up?",
    "Can you sing higher?", "Can you dance?", "Can you help me with this?", "Can you hear the rain?",
    "Can you open the box?", "Do you like cheese?", "Do you like your job?", "Do you like to swim?",
    "Do you have a pencil?", "Tell me something sad.", "Tell me something about yourself.", "Tell me your story.",
    "Are you a doctor?", "Are you a real person?", "Are you coming with us?", "Good evening.", "Good luck with it.",
    "Good idea.", "Hello from all of us.", "Thank him for the book.", "Goodbye to the old car.",
    "Is this the right way?", "Where is the milk?", "Why do you ask?", "Who is at the door?", "Which one is better?",
    "Does it snow here?", "Have you seen my glasses?", "Put it on the table.", "Close the door behind you.",
    "Read me the news.", "Bring me a glass of juice.", "My feet hurt.", "The soup is too hot.",
    "Let us go to the beach.", "It was a long winter.", "I would like a cup of coffee.", "He never came back.",
    "We are late again.",
)  # fmt: skip
"""Questions that Nano must admit not to know, close to those it knows and far from them."""

UNKNOWN_HELD_OUT = (
    "What is the capital of Egypt?", "What color is a tomato?", "How many days are in a month?",
    "Who painted this picture?", "What is the name of your dog?", "Where do penguins live?",
    "What is four plus nine?", "Can you fix my radio?", "Why is the grass so wet?", "Call my office please.",
)  # fmt: skip
"""Unknown questions kept out of training."""

FILLERS = (
    "The boy found a shiny coin under the old wooden bridge.", "She sells fresh vegetables at the corner market.",
    "A thick fog covered the valley before the storm began.", "They measured the width of the garden path twice.",
    "Jazz musicians often improvise over familiar chord changes.", "The judge asked the witness to speak clearly.",
    "His younger cousin enjoys chasing yellow butterflies.", "We usually watch television after washing the dishes.",
    "The engineer showed how the machine should be repaired.", "Both thieves vanished through a narrow hallway.",
    "Each child chose a toy from the large cardboard box.", "The choir practiced a joyful song about the north wind.",
    "Please put the blue cup beside the sugar bowl.", "An owl flew over the field at half past eight.",
    "The pilot was thankful for smooth weather over Europe.", "You could hear the church bells far across the town.",
    "Good cooks add a pinch of salt to nearly everything.", "The vision of a quiet beach pleased the tired nurse.",
    "Rob thought the measurement was wrong by an inch.", "Fresh orange juice costs more in the winter months.",
)  # fmt: skip
"""Sentences that are in no dialogue: they teach the codec the sounds of English."""

KNOWN = (*ANSWERS, *STOPS)
"""Everything that a person can say and Nano understands."""
