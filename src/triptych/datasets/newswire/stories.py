"""The tables of newswire's stories: slots, openings, facts and color for each kind.

In a template ``[this|that]`` picks one alternative, ``{slot}`` writes the value as an article would ("$3.2 million",
"twelve"), and ``{slot:s}`` writes it as a highlight would ("$3.2m", "12"). Highlights only repeat values that are in the
article's sentences. Each list entry is written as the sentences that it produces.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from triptych.datasets.newswire.slots import Slot, company, integer, money, one_of, percent, person, place


@dataclass(frozen=True)
class Fact:
    """One fact of a story: sentences for the article (body), and sentences for its highlights (highlight)."""

    body: tuple[str, ...]
    highlight: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of story: the values it draws, its opening sentences, its facts, and color that highlights omit."""

    slots: Mapping[str, Slot]
    openings: tuple[str, ...]
    facts: tuple[Fact, ...]
    color: tuple[str, ...]


COLOR = (
    '"[I have never seen anything like it|It still does not feel real|Nobody here will forget this|'
    'We are all talking about it]," [said|recalled] {witness}, a local {trade}.',
    '"[People want answers|This was bound to happen sooner or later|It could have gone either way]," '
    "{resident}, a {trade} [from|who lives in] {district}, told [the {paper} agency|reporters].",
    "{expert}, who [teaches|lectures] at the University of {elsewhere}, [called it|described it as] "
    "[a turning point|a sign of the times|hardly a surprise].",
    "[A similar story|Something much like it] was reported from {elsewhere} [in {month}|two years ago|last {month}], "
    "though [on a smaller scale|with a different outcome|few took notice].",
    "[Neighbours|Passers-by|Onlookers] [gathered|stood about] until [late in the evening|well after dark], "
    "[sharing tea|trading rumours|filming on their phones].",
    "[A poll|A survey] by {paper} in {month} [asked|had asked] {figure} people about it, and [opinion was "
    "split|most had no view].",
    "[The matter|The subject] is [expected|likely] to [come up|be raised] again in {month}, when [the council|a "
    "committee] next meets.",
    "[Calls|Messages] to a spokesman, {spokesman}, [were not returned|went unanswered] [on {day}|by the end of the day].",
    '"[We will know more in due course|It is far too early to say|Let us wait and see]," said {adviser}, '
    "[an adviser|a consultant] based in {district}.",
    "[The news|Word of it] [spread quickly|travelled fast] on {day}, and [radio stations|broadcasters] "
    "[in {district}|across the country] [cut into|broke off] their [usual|regular] programmes.",
)

STORIES: Mapping[str, Kind] = {
    "storm": Kind(
        slots={
            "town": place,
            "coast": place,
            "chief": person,
            "dead": integer(2, 40),
            "homes": integer(12, 95, 100),
            "gust": integer(80, 160),
            "cost": money(15, 900),
            "shelters": integer(3, 30),
            "evacuees": integer(11, 99, 100),
        },
        openings=(
            "A [violent|fierce|powerful] storm [tore through|swept over|battered] {town} [on {day}|late on "
            "{day}|before dawn on {day}], "
            "[ripping off roofs|uprooting trees|flooding streets] and [closing roads|cutting off villages].",
            "[Residents|Families] of {town} were [clearing up|picking through debris] on {day} after a storm "
            "[crossed|came in from] the {coast} coast [overnight|in the night].",
        ),
        facts=(
            Fact(
                (
                    "[Emergency services|Hospital staff|Police] [confirmed|announced] that {dead} people had [lost "
                    "their lives|died], [most of them|many of them] in [low-lying districts|cars swept off a road].",
                    "The [death toll|number of victims] [stood at|rose to] {dead} by the evening, [according to "
                    "officials|the coroner said].",
                ),
                (
                    "[At least|A total of] {dead:s} people have [been killed|died] in {town} after a storm "
                    "[hit|reached] the {coast} coast.",
                    "A storm [over|in] {town} on {day} has [claimed|cost] the lives of {dead:s} people.",
                ),
            ),
            Fact(
                (
                    "[Engineers|Crews] [said|reported] that {homes} homes [were without electricity|had no power], "
                    "and [repairs|repair work] could [take days|last into next week].",
                    "The [grid operator|utility] [counted|listed] {homes} households [without power|in the dark].",
                ),
                (
                    "Electricity [was cut|failed] in {homes:s} homes, and it could take days to [restore|bring back].",
                    "In {town}, {homes:s} homes [are left|sit] without power after the storm.",
                ),
            ),
            Fact(
                (
                    "[Gusts|Winds] of {gust} kilometres an hour were [measured|recorded] at a weather station "
                    "[on the {coast} coast|near {coast}].",
                    "A [weather station|lighthouse] near {coast} [logged|registered] gusts of {gust} kilometres an hour.",
                ),
                (
                    "Winds of {gust:s} kph were [measured|clocked] near the {coast} coast as the storm [came|passed].",
                    "The wind [reached|hit] {gust:s} kph on the coast of {coast}.",
                ),
            ),
            Fact(
                (
                    "Governor {chief} [put|estimated] the [damage|bill] at {cost} and [asked|appealed "
                    "to] the government for [help|aid].",
                    "Repairs will [cost|come to] {cost}, [by the reckoning of|according to] Governor {chief}, who "
                    "[toured|visited] the [county|region].",
                ),
                (
                    "Governor {chief:s} [says|estimates] that the damage in {town} will [cost|amount to] {cost:s}.",
                    "The damage is [put|valued] at {cost:s} by Governor {chief:s}, who [wants|calls for] state aid.",
                ),
            ),
            Fact(
                (
                    "[Some|About] {evacuees} people were [moved|taken] to {shelters} [shelters|schools and "
                    "halls] [further inland|on higher ground].",
                    "{shelters} [school halls|shelters] have [taken in|opened their doors to] {evacuees} people "
                    "who [fled|had to leave].",
                ),
                (
                    "[More than|Around] {evacuees:s} people in {town} were evacuated to {shelters:s} shelters.",
                    "The {evacuees:s} people who left {town} are in {shelters:s} [shelters|halls].",
                ),
            ),
        ),
        color=(
            "Forecasters had [issued|put out] a warning {figure} hours [earlier|before], [but many ignored "
            "it|and schools were shut].",
            "Ferries [stayed|remained] in [port|harbour] and [trains|buses] to {elsewhere} were [cancelled|suspended].",
            "[Meteorologists|Scientists] say that such storms [form|build up] when [warm|moist] air [meets|runs "
            "into] a cold front.",
            "[Volunteers|Soldiers] [handed out|brought] blankets, [bottled water|hot soup] and [torches|candles].",
        ),
    ),
    "verdict": Kind(
        slots={
            "accused": person,
            "judge": person,
            "lawyer": person,
            "town": place,
            "firm": company,
            "years": integer(3, 29),
            "sum": money(11, 99),
            "victims": integer(13, 90),
            "hours": integer(3, 40),
            "post": one_of("accountant", "banker", "doctor", "councillor", "broker", "manager"),
            "crime": one_of("fraud", "bribery", "theft", "blackmail", "forgery", "arson"),
        },
        openings=(
            "A [long-awaited|much-watched] trial [ended|came to a close] in {town} on {day} [amid heavy "
            "security|before a packed gallery].",
            "There were [gasps|tears|cheers] in a {town} courtroom on {day} as [the jury returned|jurors came "
            "back] to [announce|deliver] a decision.",
        ),
        facts=(
            Fact(
                (
                    "The former {post} {accused} was [convicted|found guilty] of {crime} [on all counts|by a "
                    "majority of the jury].",
                    "The jury [declared|found] the former {post} {accused} guilty of {crime}.",
                ),
                (
                    "The former {post} {accused}, on trial in {town}, is [convicted|guilty] of {crime}.",
                    "A jury in {town} on {day} [convicts|has convicted] the former {post} {accused} of {crime}.",
                ),
            ),
            Fact(
                (
                    "Judge {judge} [handed down|passed] a [prison term|sentence] of {years} years, [to begin at "
                    "once|with no right of early release].",
                    "[Passing sentence|Summing up], Judge {judge} [ordered|ruled] that {years} years [be "
                    "served|would be spent] behind bars.",
                ),
                (
                    "Judge {judge:s} [imposes|gives] a sentence of {years:s} years in [jail|prison] in the {town} trial.",
                    "The former {post} must [spend|serve] {years:s} years in [jail|prison] on the orders of Judge {judge:s}.",
                ),
            ),
            Fact(
                (
                    "[Prosecutors|The prosecution] had [told|shown] the court how {sum} [vanished|went missing] "
                    "from the [books|accounts] of {firm}.",
                    "[Witnesses|Bank records] [described|showed] how {sum} was [moved|siphoned] out of {firm} "
                    "[over several years|through shell companies].",
                ),
                (
                    "The court heard that {sum:s} was [stolen|taken] from {firm} over the years.",
                    "The firm {firm} was [robbed|cheated] of {sum:s}, the trial in {town} [heard|was told].",
                ),
            ),
            Fact(
                (
                    "Defence lawyer {lawyer} [said|promised] [outside the court|on the steps] that "
                    "the ruling would be [appealed|challenged].",
                    '"[We shall take this further|This is not the end]," said defence lawyer {lawyer}, '
                    "[who will|vowing to] appeal.",
                ),
                (
                    "Defence lawyer {lawyer:s} [plans|intends] to appeal against the decision in {town}.",
                    "An appeal [will be|is to be] filed by defence lawyer {lawyer:s} in {town}.",
                ),
            ),
            Fact(
                (
                    "[In all|Altogether], {victims} [customers|people] [came forward|gave evidence] [as "
                    "victims|to say they had lost out].",
                    "The [indictment|charge sheet] [named|listed] {victims} victims, [some of them|several] "
                    "[pensioners|elderly].",
                ),
                (
                    "There were {victims:s} victims in the case, and some [spoke|appeared] in the courtroom in {town}.",
                    "A total of {victims:s} victims were [heard|counted] in the {town} trial.",
                ),
            ),
        ),
        color=(
            "Jurors [deliberated|were out] for {hours} hours, [sending two notes|asking once for a transcript].",
            "The case [drew|attracted] [crowds|camera teams] from as far [away |]as {elsewhere}.",
            "The courthouse, [built of red brick|a grey block], was last [so full|this busy] in {month}.",
            "[Legal scholars|Commentators] [doubt|question] whether the law [needs|calls for] any change.",
        ),
    ),
    "football": Kind(
        slots={
            "home": place,
            "away": place,
            "scorer": person,
            "coach": person,
            "keeper": person,
            "goals": integer(2, 5),
            "minute": integer(13, 89),
            "points": integer(21, 79),
            "crowd": integer(61, 480, 100),
            "weeks": integer(3, 12),
        },
        openings=(
            "{home} [met|faced] {away} on {day} in a [cup|league] [match|tie] that [supporters|fans] had "
            "[awaited|talked about] for weeks.",
            "It was a [cold|wet|bright] {day} when {away} [came to|visited] {home} for [one of the games|a key "
            "fixture] of the season.",
        ),
        facts=(
            Fact(
                (
                    "The [home side|hosts] [ran out|were] winners by {goals} goals to one, [and it might have "
                    "been more|after a nervous start].",
                    "When the whistle [went|blew], the scoreboard [read|showed] {goals} goals for the "
                    "[hosts|home side] and one for the visitors.",
                ),
                (
                    "The hosts, {home}, [beat|defeat] {away} by {goals:s} goals to 1 in the match on {day}.",
                    "The visitors, {away}, [lose|are beaten] {goals:s}-1 in the [game|match] at {home} on {day}.",
                ),
            ),
            Fact(
                (
                    "Striker {scorer} [struck|found the net] after {minute} minutes [with a low drive|from a free "
                    "kick|with a header].",
                    "The [turning point|decisive moment] came after {minute} minutes, when striker {scorer} "
                    "[rose|broke free] to [head home|score].",
                ),
                (
                    "Striker {scorer} [scores|nets] the [key|vital] goal against {away} in minute {minute:s} of the match.",
                    "A goal by striker {scorer} after {minute:s} minutes [settles|decides] the game.",
                ),
            ),
            Fact(
                (
                    "The [result|win] [lifts|takes] them to {points} points, [third|second|fourth] in the [table|standings].",
                    "With {points} points [on the board|to their name], the hosts now [look up|dream of the title].",
                ),
                (
                    "The winners, {home}, [move|climb] to {points:s} points in the league table with the win over {away}.",
                    "The win over {away} [leaves|puts] {home} on {points:s} points in the season.",
                ),
            ),
            Fact(
                (
                    "Captain {keeper} [limped|was carried] off [with a knee injury|holding a "
                    "hamstring] and [is out|will miss football] for {weeks} weeks.",
                    "There was [bad|worrying] news of captain {keeper}, whose [torn muscle|broken wrist] "
                    "[means|brings] a break of {weeks} weeks.",
                ),
                (
                    "Captain {keeper:s} was [injured|hurt] in the game and will [miss|be out for] {weeks:s} weeks.",
                    "An injury [sidelines|stops] captain {keeper:s} of {home} for {weeks:s} weeks.",
                ),
            ),
            Fact(
                (
                    '"[We were second to every ball|I take the blame for this]," said [losing|visiting] '
                    "coach {coach}, who [offered to resign|tendered a resignation].",
                    "[Visiting|Losing] coach {coach} [resigned|stepped down] [within the hour|in the dressing "
                    "room], [ending months of rumours|to no great surprise].",
                ),
                (
                    "Coach {coach:s} of {away} [quits|leaves] after the defeat at {home}.",
                    "Coach {coach:s} is [to leave|leaving] {away} after the match on {day}.",
                ),
            ),
        ),
        color=(
            "A crowd of {crowd} [braved|put up with] [the drizzle|a biting wind], [singing|waving scarves] throughout.",
            "The referee, [in charge of|handling] only a second match at this level, [showed|handed out] three yellow cards.",
            "[Next|Next week] comes a [trip|journey] to {elsewhere}, where [nobody|no visitor] has won since {month}.",
            "The two clubs first met {figure} years ago, in a [park|meadow] near {elsewhere}.",
        ),
    ),
    "takeover": Kind(
        slots={
            "buyer": company,
            "target": company,
            "boss": person,
            "rival": company,
            "town": place,
            "price": money(11, 99, "billion"),
            "premium": percent(12, 60),
            "jobs": integer(3, 98, 100),
            "rise": percent(3, 30),
            "trade_of": one_of(
                "chip maker", "drug maker", "airline", "brewer", "insurer", "retailer", "shipping line", "software firm"
            ),
        },
        openings=(
            "[Months|Weeks] of [speculation|rumour] about the future of {target}, the {trade_of}, [ended|came to "
            "an end] on {day}.",
            "Shareholders in {target}, [a|the] {trade_of} based in {town}, [woke|were woken] to [big|startling] news on {day}.",
        ),
        facts=(
            Fact(
                (
                    "The company {buyer} [has agreed|signed a contract] to [acquire|take over] the company [in a "
                    "deal worth|for] {price} [in cash|in cash and shares].",
                    "[In a statement|In a filing], the company {buyer} [said|announced] it would pay {price} for the "
                    "[whole|entire] business.",
                ),
                (
                    "The company {buyer} is to [buy|purchase] {target}, the {trade_of}, for {price:s}.",
                    "The {trade_of} {target} is to be [sold|handed] to the company {buyer} for {price:s}, it was "
                    "announced on {day}.",
                ),
            ),
            Fact(
                (
                    "The [offer|bid] is {premium} above [the last closing price|what the shares cost a month ago].",
                    "Investors [receive|will get] {premium} more than the [shares|stock] [fetched|traded at] on {day}.",
                ),
                (
                    "The [price|deal] is {premium:s} [higher|more] than the value of {target} on the market.",
                    "Shareholders in {target} [get|are offered] a premium of {premium:s} on the market price.",
                ),
            ),
            Fact(
                (
                    "[Unions|Labour leaders] [fear|warned] that {jobs} [jobs|posts] [might|could] [go|disappear] "
                    "at the plant in {town}.",
                    "[Up to|As many as] {jobs} [workers|employees] in {town} may [have to leave|be laid off] "
                    "[next year|by the summer].",
                ),
                (
                    "In {town}, {jobs:s} jobs at the {trade_of} are [in danger|at risk] in the deal.",
                    "The deal [puts at risk|endangers] {jobs:s} jobs in {town}, the unions [say|think].",
                ),
            ),
            Fact(
                (
                    "[After nine years, chief|Chief] executive {boss} [is to leave|will step aside] "
                    "[once the deal closes|at the end of {month}].",
                    "Chief executive {boss} [told staff|wrote to staff] that it was [time to go|the moment to make way].",
                ),
                (
                    "The chief executive {boss:s} of {target} [is leaving|departs] after the deal.",
                    "Chief executive {boss:s} of {target} [stands down|quits] when the deal is done.",
                ),
            ),
            Fact(
                (
                    "The [rival|other] bidder {rival} [withdrew|gave up] after its own shares fell {rise}.",
                    "A counter-bid from the bidder {rival} [collapsed|came to nothing] as its shares [slid|dropped] {rise}.",
                ),
                (
                    "The bid for {target} by the bidder {rival} is off, and the shares are down {rise:s}.",
                    "The bidder {rival} is out of the [race|running] for {target} and [lost|fell] {rise:s}.",
                ),
            ),
        ),
        color=(
            "[Regulators|Competition officials] in {elsewhere} [will look at|must still approve] the "
            "[deal|terms], a matter of {figure} days [as a rule|on average].",
            "[Analysts|Bankers] at {paper} [said|thought] the [sector|industry] was [ripe for|in need of] "
            "[mergers|consolidation].",
            "The firm was [founded|started] in a [garage|barn] near {elsewhere} and [went public|listed its "
            "shares] {figure} years later.",
            "[Trading|Business] has been [slow|uneven] since {month}, [with costs rising|as customers held back].",
        ),
    ),
    "election": Kind(
        slots={
            "winner": person,
            "loser": person,
            "judge": person,
            "region": place,
            "town": place,
            "party": one_of(
                "Unity Party", "Green Front", "Farmers League", "Liberal Union", "Civic List", "Workers Bloc"
            ),
            "share": percent(42, 63),
            "turnout": percent(38, 86),
            "ballots": integer(13, 98, 10),
            "taxes": percent(2, 15),
            "seats": integer(14, 88),
        },
        openings=(
            "[Voters|People] in {region} [went to the polls|cast their ballots] on {day} after [a bitter|a "
            "long|an unusually quiet] campaign.",
            "[Counting|The count] in {region} [lasted|went on] [into the small hours|through the night] of "
            "{day}, and [few|hardly any] [slept|went home].",
        ),
        facts=(
            Fact(
                (
                    "Candidate {winner} [will be|becomes] the next governor, having [taken|secured] {share} of the "
                    "vote for the {party}.",
                    "[With|On] {share} of the vote, candidate {winner} of the {party} [claimed|took] the governor's office.",
                ),
                (
                    "Candidate {winner} of the {party} [wins|is elected] in {region} with {share:s} of the vote.",
                    "The {party} and candidate {winner} [win|prevail] in {region} on {day} with {share:s} of ballots.",
                ),
            ),
            Fact(
                (
                    "Outgoing governor {loser}, who had [held|filled] the post [for two terms|for years], "
                    "[conceded|admitted defeat] [by telephone|shortly before midnight].",
                    '"[The people have spoken|I wish my successor well]," said outgoing governor {loser}.',
                ),
                (
                    "The outgoing governor {loser:s} [concedes|accepts] defeat in the vote in {region}.",
                    "Outgoing governor {loser:s} [concedes|loses] the governor's post in {region} after the count.",
                ),
            ),
            Fact(
                (
                    "[Turnout|Participation] [reached|came to] {turnout}, [the highest|the lowest] [in a "
                    "generation|for thirty years].",
                    "[Officials|Clerks] [said|reported] that {turnout} of those entitled to vote had [done so|turned up].",
                ),
                (
                    "Turnout in {region} [was|is put at] {turnout:s} after a long campaign, officials say.",
                    "The [polls|vote] in {region} [drew|attracted] {turnout:s} of voters.",
                ),
            ),
            Fact(
                (
                    "In {town}, {ballots} [ballots|voting papers] [went astray|were found in a skip], and Judge "
                    "{judge} [ordered|has ordered] [a recount|an inquiry].",
                    "Judge {judge} [will look into|is examining] the [loss|disappearance] of {ballots} "
                    "[ballots|voting papers] in {town}.",
                ),
                (
                    "An inquiry by Judge {judge:s} is to [find|trace] the {ballots:s} lost ballots of {town}.",
                    "Judge {judge:s} [probes|investigates] the {ballots:s} ballots that [vanished|are missing] in {town}.",
                ),
            ),
            Fact(
                (
                    "The [new government|next administration] has [pledged|promised] to [lower|cut] "
                    "[property|income] tax by {taxes}.",
                    "[A cut|A reduction] of {taxes} in [property|income] tax was the [main|central] "
                    "[promise|pledge] of the campaign.",
                ),
                (
                    "The new governor of {region} is to [reduce|bring down] taxes by {taxes:s}.",
                    "[Households|People] in {region} are to pay {taxes:s} less in tax after the vote.",
                ),
            ),
        ),
        color=(
            "The [assembly|parliament] has {seats} seats, [a third of which|many of which] were not [at "
            "stake|contested] this time.",
            "[Observers|Monitors] from {elsewhere} [saw|noted] [no|few] [serious|grave] irregularities.",
            "At one [school|library], the queue [stretched|wound] for {figure} metres [before the doors "
            "opened|past the bakery].",
            "[Campaign posters|Leaflets] [lay|were strewn] [in the gutters|about the square] [by morning|in the rain].",
        ),
    ),
    "study": Kind(
        slots={
            "city": place,
            "lead": person,
            "critic": person,
            "maker": company,
            "patients": integer(13, 98, 100),
            "fall": percent(12, 68),
            "span": integer(3, 19),
            "grant": money(11, 95),
            "illness": one_of(
                "asthma", "migraine", "diabetes", "heart disease", "insomnia", "arthritis", "back pain", "stroke"
            ),
            "habit": one_of("walking", "swimming", "green tea", "gardening", "choir singing", "cycling", "yoga"),
        },
        openings=(
            "[Doctors|Researchers] at the University of {city} [believe|say] they [may have found|have found] [a "
            "simple|a cheap] way to [ease|prevent] {illness}.",
            "Long a matter of folklore, {habit} has [drawn|caught] the [attention|interest] of [medical "
            "researchers|physicians] in {city}.",
        ),
        facts=(
            Fact(
                (
                    "[Cases|New cases] of {illness} were {fall} [lower|less common] among [those|people] who "
                    "[took up|kept up] {habit}.",
                    "In the group assigned to {habit}, [the risk|the likelihood] of {illness} [went down|dropped] by {fall}.",
                ),
                (
                    "Researchers in {city} [say|find] that {habit} [cuts|lowers] the risk of {illness} by {fall:s}.",
                    "The risk of {illness} is {fall:s} lower with {habit}, doctors at the University of {city} [say|report].",
                ),
            ),
            Fact(
                (
                    "[The team|The group] [followed|observed] {patients} [adults|volunteers] [for|over] {span} years.",
                    "[Over|In the course of] {span} years, {patients} [adults|volunteers] [kept diaries|had "
                    "regular check-ups].",
                ),
                (
                    "The [study|research] in {city} [tracked|involved] {patients:s} people for {span:s} years.",
                    "For {span:s} years, researchers in {city} [watched|monitored] {patients:s} people.",
                ),
            ),
            Fact(
                (
                    '"[The effect surprised us all|We checked the numbers three times]," said Professor {lead}, '
                    "[who led|the main author of] the [work|project].",
                    "Professor {lead}, [in charge of|who led] the work, [spoke of|reported] [a "
                    "clear|an unmistakable] [effect|pattern].",
                ),
                (
                    "Professor {lead:s}, [leader|head] of the study in {city}, [sees|speaks of] a clear effect of {habit}.",
                    "Professor {lead:s}, who [headed|directed] the study at the University of {city}, [is "
                    "sure|is confident] of the effect.",
                ),
            ),
            Fact(
                (
                    "[Not everyone|Not all] agreed: the critic {critic} [cautioned|warned] that [diet|age|income] "
                    "might [explain|account for] [it all|the result].",
                    "The critic {critic}, [who took no part|an outsider], [thought|found] the [sample|method] [too "
                    "weak|wanting] and [urged|advised] caution.",
                ),
                (
                    "The critic {critic:s} [doubts|questions] that {habit} is the [reason|cause] of the effect.",
                    "The critic {critic:s} [urges|calls for] caution about {habit} and [its|the] effect on {illness}.",
                ),
            ),
            Fact(
                (
                    "The [work|research] was [paid for|funded] by the charity {maker}, with a grant of {grant}.",
                    "The charity {maker} [provided|put up] {grant} [for the work|to pay for it].",
                ),
                (
                    "The study of {habit} was funded by the charity {maker} with {grant:s}.",
                    "The charity {maker} [spent|paid] {grant:s} on the research at the University of {city}.",
                ),
            ),
        ),
        color=(
            "[Participants|Subjects] were [of all ages|recruited in {elsewhere}], and [a few|some] [dropped out|moved away].",
            "{illness} [affects|troubles] [roughly|around] {figure} in a thousand [people|adults], [figures "
            "show|by official count].",
            "[Earlier|Previous] [trials|work] in {elsewhere} had [led nowhere|given mixed results].",
            "The [paper|article] [appears|was published] in the {month} issue of [a journal|a medical journal].",
        ),
    ),
    "launch": Kind(
        slots={
            "base": place,
            "maker": company,
            "craft": company,
            "pilot": person,
            "boss": person,
            "target": one_of("Mars", "Venus", "the Moon", "Jupiter", "an asteroid", "a comet", "Saturn", "Mercury"),
            "delay": integer(2, 40),
            "cost": money(11, 95, "billion"),
            "months": integer(3, 30),
            "mass": integer(21, 98, 10),
        },
        openings=(
            "[Thousands|Crowds] [watched|looked on] as a rocket [climbed|rose] into [a clear|a cloudless|an "
            "evening] sky over {base} on {day}.",
            "The [ground|windows] [shook|trembled] in {base} on {day} as a rocket left its pad [and a new voyage "
            "began|for deep space].",
        ),
        facts=(
            Fact(
                (
                    "The [probe|spacecraft], [named|called] {craft}, is [on its way|bound] for {target}, [where "
                    "it will look for water|to study its surface].",
                    "[On board|At its tip] was {craft}, a [probe|spacecraft] [meant|built] to [reach|explore] {target}.",
                ),
                (
                    "The [probe|spacecraft] {craft} [lifts off|was launched] on {day} from {base} for {target}.",
                    "A rocket [carries|took] the [probe|craft] {craft} from {base} into the sky on [a voyage|the "
                    "way] to {target}.",
                ),
            ),
            Fact(
                (
                    "The [journey|flight] will [last|take] {months} months, [most of it|much of it] [in sleep "
                    "mode|with instruments off].",
                    "[If all goes well|Barring mishaps], it will [arrive|get there] in {months} months.",
                ),
                (
                    "The [trip|voyage] of {craft} to {target} is to [take|last] {months:s} months.",
                    "The [probe|spacecraft] {craft} is [due|expected] at {target} in {months:s} months.",
                ),
            ),
            Fact(
                (
                    "The builder {maker}, [maker of|which assembled] the rocket, has [spent|sunk] {cost} [so far|on it].",
                    "At {cost}, [it is|this is] the most [costly|expensive] [project|craft] that the builder {maker} "
                    "has [ever |]built.",
                ),
                (
                    "The builder {maker} [paid|spent] {cost:s} on the [mission|project].",
                    "The mission to {target} has cost the builder {maker} {cost:s}.",
                ),
            ),
            Fact(
                (
                    "[A leaking valve|Bad weather|A software fault] had [held up|postponed] the [start|launch] "
                    "by {delay} days.",
                    "It [came|happened] {delay} days late, [because of|owing to] [a leaking valve|high winds|a faulty sensor].",
                ),
                (
                    "The launch from {base} on {day} was {delay:s} days [overdue|behind schedule].",
                    "The rocket in {base} [lifted off|left] after a delay of {delay:s} days.",
                ),
            ),
            Fact(
                (
                    '"[We have waited a lifetime|This is only the start]," said mission director {boss}.',
                    "Mission director {boss} [wept|hugged colleagues] [as contact was made|when the first signal came].",
                ),
                (
                    "The mission director {boss:s} [celebrates|cheers] the launch.",
                    "There was [joy|relief] in {base} for mission director {boss:s} after the launch.",
                ),
            ),
        ),
        color=(
            "[Fully fuelled|On the pad], it [weighed|came to] {mass} tonnes, [about as much as|the weight of] a "
            "[small ship|dozen locomotives].",
            "[A tracking station|An antenna] near {elsewhere} [picked up|received] [its|the first] signal after "
            "{figure} minutes.",
            "[Fishing boats|Aircraft] had been [told|ordered] to [stay clear|keep away] of a [zone|strip] off {elsewhere}.",
            "[School classes|Families] [camped|had waited] [on the beach|by the fence] since [dawn|the night before].",
        ),
    ),
    "theft": Kind(
        slots={
            "city": place,
            "museum": company,
            "painter": person,
            "guard": person,
            "detective": person,
            "works": integer(2, 19),
            "value": money(12, 960),
            "minutes": integer(3, 28),
            "reward": integer(11, 95, 1000),
            "van": one_of("white van", "grey car", "motorcycle", "speedboat", "bakery truck", "stolen taxi"),
            "object": one_of("paintings", "coins", "clocks", "drawings", "vases", "statues", "masks", "violins"),
        },
        openings=(
            "[Thieves|Burglars] [broke into|forced their way into] the {museum} Museum in {city} [on {day}|in "
            "the early hours of {day}].",
            "[Visitors|Tourists] found the {museum} Museum in {city} [closed|sealed off] on {day} after a "
            "[night-time|daring] [raid|robbery].",
        ),
        facts=(
            Fact(
                (
                    "[Missing are|The intruders took] {works} {object}, [some|several] [once owned|collected] by {painter}.",
                    "[An inventory|A check] [showed|revealed] that {works} {object} [were gone|had been carried off].",
                ),
                (
                    "[Burglars|Robbers] [stole|made off with] {works:s} {object} from the {museum} Museum in {city}.",
                    "The {museum} Museum in {city} is [robbed|stripped] of {works:s} {object} in a raid on {day}.",
                ),
            ),
            Fact(
                (
                    "The [haul|loot] is [insured|valued] at {value}, [a curator said|though no buyer would dare touch it].",
                    "[Insurers|Experts] [put|set] the [value|worth] of the haul at {value}.",
                ),
                (
                    "The stolen {object} from the museum in {city} are [worth|estimated at] {value:s}.",
                    "The {museum} Museum [says|reckons] the {object} are worth {value:s}.",
                ),
            ),
            Fact(
                (
                    "[Cameras|Video recordings] [show|caught] [two|three] [masked|hooded] [figures|men] "
                    "[fleeing|leaving] in a {van} after {minutes} minutes.",
                    "The raid was over in {minutes} minutes, and the [gang|culprits] [drove|got] away in a {van}.",
                ),
                (
                    "The thieves [escaped|fled] from the museum in a {van} within {minutes:s} minutes.",
                    "It took the thieves {minutes:s} minutes to [empty|raid] the {museum} Museum and [flee|escape] in a {van}.",
                ),
            ),
            Fact(
                (
                    "The [night |museum ]guard {guard} was [tied up|locked in a cupboard] but [unhurt|not harmed].",
                    "[Cleaners|Colleagues] [freed|found] the guard {guard}, [bound to a chair|shut in a store room].",
                ),
                (
                    "The guard {guard:s} was [overpowered|attacked] but is [well|unharmed].",
                    "At the {museum} Museum, the guard {guard:s} was [captured|held] in the raid.",
                ),
            ),
            Fact(
                (
                    "Detective {detective} [offered|announced] a reward of {reward} dollars [for hints|for information].",
                    "[Tips|Hints] will be rewarded with {reward} dollars, [said|according to] Detective {detective}.",
                ),
                (
                    "A reward of ${reward:s} is [promised|on offer] from Detective {detective:s} of the {city} police.",
                    "Detective {detective:s}, who [leads|runs] the case in {city}, [promises|will pay] "
                    "${reward:s} for information.",
                ),
            ),
        ),
        color=(
            "The [alarm|alarm system] [dates|dated] from a time when the [building|house] was [a bank|a town "
            "hall] and had failed twice.",
            "[Border posts|Airports] and the port of {elsewhere} [were alerted|have been told to look out].",
            "The museum [draws|counts] {figure} thousand visitors [a year|every summer] and [plans|hopes] to "
            "[reopen|open again] in {month}.",
            "[A pane of glass|A side door] [lay|stood] [broken|splintered] [behind police tape|beside the ticket desk].",
        ),
    ),
    "strike": Kind(
        slots={
            "line": place,
            "hub": place,
            "union": person,
            "minister": person,
            "operator": company,
            "trains": integer(13, 96, 10),
            "ask": percent(5, 19),
            "offer": percent(2, 4),
            "days": integer(2, 12),
            "loss": money(11, 98),
            "staff": integer(13, 99, 100),
        },
        openings=(
            "[Commuters|Passengers] [faced|met] [empty platforms|locked stations] in {hub} on {day} as "
            "[drivers|rail workers] [walked out|downed tools].",
            "[Rail|Train] services [around|in and out of] {hub} [ground to a halt|came to a standstill] on {day} "
            "when [drivers|signal staff] [stayed at home|went on strike].",
        ),
        facts=(
            Fact(
                (
                    "The operator {operator}, which [runs|has] the [network|lines], [had to cancel|called off] "
                    "{trains} trains.",
                    "[In all|By noon], {trains} [services|trains] of the operator {operator} had been "
                    "[scrapped|struck from the timetable].",
                ),
                (
                    "The operator {operator} [cancels|drops] {trains:s} trains in {hub} on {day} as the workers strike.",
                    "A strike in {hub} on {day} [stops|halts] {trains:s} trains of the operator {operator}.",
                ),
            ),
            Fact(
                (
                    "The union leader {union} [wants|is asking for] {ask} more [pay|money] [and shorter shifts|from {month}].",
                    '"[Wages have stood still for too long|We cannot live on promises]," said union leader '
                    "{union}, who [demands|seeks] [a rise|an increase] of {ask}.",
                ),
                (
                    "The union leader {union:s} [claims|insists on] {ask:s} more pay for rail workers.",
                    "The rail workers of union leader {union:s} want a pay rise of {ask:s}.",
                ),
            ),
            Fact(
                (
                    "[Managers|The employers] have [put|laid] {offer} on the table, [an offer|a sum] "
                    "[rejected|turned down] [at once|by a show of hands].",
                    "[An offer|A proposal] of {offer} from the [management|employers] was [rejected|thrown out] "
                    "[in a ballot|last {month}].",
                ),
                (
                    "The workers in {hub} [refuse|decline] an offer of {offer:s} from the employers.",
                    "An offer of {offer:s} to the rail workers of the operator {operator} was [refused|declined].",
                ),
            ),
            Fact(
                (
                    "The [stoppage|walkout] is [due|planned] to [last|go on for] {days} days [unless talks resume|at least].",
                    "Unless talks [resume|restart], nothing will [move|run] for {days} days.",
                ),
                (
                    "The strike of rail workers in {hub} is to [continue|run] for {days:s} days.",
                    "Passengers in {hub} [face|must expect] {days:s} days of strike.",
                ),
            ),
            Fact(
                (
                    "The [transport|labour] minister {minister} [called|invited] both sides to [talks|a meeting] in {line}.",
                    "[Both|The two] sides will [meet|sit down] in {line} [at the invitation of|with] the "
                    "[transport|labour] minister {minister}.",
                ),
                (
                    "The minister {minister:s} is to [host|lead] talks in {line} on the strike.",
                    "Talks on the strike in {hub} are [set|planned] in {line} with the minister {minister:s}.",
                ),
            ),
        ),
        color=(
            "[Buses|Taxis] to {elsewhere} were [full|packed], and [some|many] [shared cars|set off on foot].",
            "[Shops|Cafes] in the station [sold|counted] {figure} [coffees|rolls] where they usually [sell|serve] hundreds.",
            "The last [dispute|stoppage] of this kind, [in {month}|years ago], [fizzled out|was settled] after {figure} hours.",
            "[Freight|Goods] [traffic|trains] to the port of {elsewhere} [ran|moved] [as normal|with delays].",
        ),
    ),
    "wildfire": Kind(
        slots={
            "park": place,
            "village": place,
            "chief": person,
            "hero": person,
            "area": integer(11, 98, 100),
            "crews": integer(13, 95, 10),
            "share": percent(5, 75),
            "planes": integer(3, 19),
            "houses": integer(13, 99),
            "cause": one_of(
                "a campfire", "lightning", "a power line", "a cigarette", "a barbecue", "fireworks", "a tractor spark"
            ),
        },
        openings=(
            "A wildfire [raged|burned] [out of control|for a third day] in the [hills|forests] above {park} on "
            "{day}, [fanned|driven] by [dry|hot] winds.",
            "[Thick|Acrid] smoke [hung|drifted] over {park} on {day} as [flames|fire] [raced|spread] through "
            "[parched|dry] [woodland|scrub].",
        ),
        facts=(
            Fact(
                (
                    "[So far|Since it began], {area} hectares of [land|forest] have [burned|been blackened].",
                    "The [blaze|fire] has [consumed|eaten up] {area} hectares, [an area the size of a "
                    "town|satellite pictures show].",
                ),
                (
                    "A wildfire in the [hills|forests] of {park} has [destroyed|scorched] {area:s} hectares.",
                    "The [flames|fire] above {park} [cover|have swallowed] {area:s} hectares of land on {day}.",
                ),
            ),
            Fact(
                (
                    "Fire chief {chief} [said|reported] that {crews} firefighters were [at work|in "
                    "action] and that {share} of the front was [under control|contained].",
                    "[About|Some] {crews} firefighters have [secured|contained] {share} of the front, "
                    "[said|according to] fire chief {chief}.",
                ),
                (
                    "The {crews:s} firefighters in {park} have [tamed|stopped] {share:s} of the wildfire, "
                    "fire chief {chief:s} says.",
                    "Fire chief {chief:s} says {share:s} of the fire in {park} is [held|checked] by {crews:s} firefighters.",
                ),
            ),
            Fact(
                (
                    "In the village of {village}, {houses} houses [burned down|were reduced to ashes].",
                    "[Worst hit|Hardest hit] was {village}, where {houses} houses [went up in flames|could not be saved].",
                ),
                (
                    "The wildfire has [destroyed|claimed] {houses:s} houses in the village of {village}.",
                    "The village of {village}, near {park}, has [lost|seen the loss of] {houses:s} houses in the fire.",
                ),
            ),
            Fact(
                (
                    "[Investigators|Police] [believe|think] that {cause} [started it|was to blame].",
                    "The [cause|origin] was [probably|most likely] {cause}, [investigators|police] [believe|said].",
                ),
                (
                    "The police [suspect|assume] that {cause} [set off|caused] the wildfire in {park}.",
                    "The wildfire above {park} was [likely|probably] [caused|set off] by {cause}.",
                ),
            ),
            Fact(
                (
                    "The postman {hero} [drove|led] {planes} neighbours to safety [through the smoke|along a river bed].",
                    "[People|Locals] [praised|thanked] the postman {hero}, who [went back|returned] and "
                    "[brought|got] {planes} neighbours out.",
                ),
                (
                    "The postman {hero:s} [saved|rescued] {planes:s} neighbours from the smoke and fire in {park}.",
                    "In the smoke of the wildfire, {planes:s} neighbours were [saved|rescued] by the postman {hero:s}.",
                ),
            ),
        ),
        color=(
            "[No rain|Hardly any rain] has fallen [in the region|there] for {figure} days, and [none|little] is "
            "[forecast|in sight].",
            "[Horses|Cattle] were [driven|taken] to [pastures|fields] near {elsewhere}.",
            "[Rangers|Foresters] had [warned|complained] in {month} that [undergrowth|dead wood] was not "
            "[cleared|being removed].",
            "[Ash|Soot] [fell|settled] on [cars|gardens] as far [off|away] as {elsewhere}.",
        ),
    ),
}
