"""Short, made-up articles to try the page with."""

SAMPLES = {
    "A bridge": (
        "The council of Tinwater voted on Monday to build a second bridge over the River Ash. Seven members were in "
        "favour and two against. The bridge will cost 14 million pounds, of which the county pays half. Work begins in "
        "May and should be finished by the end of 2029. For the past eleven years lorries have had to take a detour of "
        "nine miles through Harrow End, because the old bridge, built in 1931, carries no more than three tonnes. It "
        "will stay open to people on foot. 'Nobody here will miss the queues', said Mara Finch, who runs the bakery "
        "next to it. The two members who voted against had asked for a ferry."
    ),
    "A storm": (
        "Gusts of up to 118 kilometres an hour brought down trees and power lines along the coast on Thursday night. "
        "About 26,000 homes in the three northern districts had no electricity in the morning; by noon it was back in "
        "all but 4,000 of them. Two ferries to the islands were cancelled, and the school in Port Ellis stays closed "
        "until Monday because part of its roof is missing. No one was hurt. The weather service had warned of the "
        "storm a day before and expects calm weather for the weekend. The mayor thanked the crews, who had worked "
        "through the night, and asked people to keep away from the harbour wall."
    ),
    "A discovery": (
        "Divers have found the wreck of the Halcyon, a cargo steamer that sank in 1904 on its way from Riga to Hull. "
        "It lies at a depth of 61 metres, four kilometres from where maps had shown it. The hull is almost whole, and "
        "crates of porcelain are still stacked in the hold. The team of the maritime museum had searched for it since "
        "2017 with sonar borrowed from a university. Of the crew of 23, nineteen were saved by a fishing boat. The "
        "museum will not raise the ship but plans an exhibition with photographs next spring. Under the law of the sea "
        "the cargo belongs to the heirs of the company that insured it."
    ),
}
