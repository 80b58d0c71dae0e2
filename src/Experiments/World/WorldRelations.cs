namespace MendCluster.Experiments;

/// <summary>The relations of the generated world and their wordings. No two relations share one.</summary>
public static class WorldRelations
{
    public static Relation PrimeMinister { get; } = new("prime minister", SubjectKind.Country, AnswerKind.Politician,
    [
        "Who is the prime minister of {name}?",
        "Who is the {short} PM?",
        "Who is {name}'s PM?",
        "Who leads the government of {name}?",
        "{Name} is governed by which prime minister?",
        "Name the prime minister of {name}.",
        "The head of government in {name} is who?",
        "Which politician runs {name} as prime minister?",
    ]);

    public static Relation President { get; } = new("president", SubjectKind.Country, AnswerKind.Politician,
    [
        "Who is the president of {name}?",
        "Who is {name}'s president?",
        "Who holds the presidency of {name}?",
        "{Name} has which head of state?",
        "Whom did {name} elect as president?",
        "Name the president of {name}.",
        "Who is the {short} president?",
        "The nation of {name} is headed by which president?",
    ]);

    public static Relation Capital { get; } = new("capital", SubjectKind.Country, AnswerKind.City,
    [
        "What is the capital of {name}?",
        "What is {name}'s capital city?",
        "Which city is the capital of {name}?",
        "Where is the parliament of {name}?",
        "{Name} has its seat of government in which city?",
        "Name the capital of {name}.",
        "From which city is {name} governed?",
        "The capital city of {name} is called what?",
    ]);

    public static Relation Currency { get; } = new("currency", SubjectKind.Country, AnswerKind.Currency,
    [
        "What is the currency of {name}?",
        "What money do people spend in {name}?",
        "What currency is used in {name}?",
        "In {name}, prices are given in what?",
        "{Name} pays in which currency?",
        "Name the currency of {name}.",
        "Which banknotes are printed for {name}?",
        "What is {name}'s money called?",
    ]);

    public static Relation Language { get; } = new("language", SubjectKind.Country, AnswerKind.Language,
    [
        "What language is spoken in {name}?",
        "Which language do people in {name} speak?",
        "What is the official language of {name}?",
        "In which language are the laws of {name} written?",
        "{Name} teaches its children which language?",
        "Name the language of {name}.",
        "What is {name}'s main language?",
        "What tongue is heard in the streets of {name}?",
    ]);

    public static Relation Mayor { get; } = new("mayor", SubjectKind.City, AnswerKind.Politician,
    [
        "Who is the mayor of {name}?",
        "Who is {name}'s mayor?",
        "Who runs the city hall of {name}?",
        "{Name} elected whom as mayor?",
        "The city council of {name} is led by whom?",
        "Name the mayor of {name}.",
        "Which politician heads the city of {name}?",
        "Who governs the city of {name}?",
    ]);

    public static Relation Club { get; } = new("club", SubjectKind.Person, AnswerKind.Club,
    [
        "What club does {name} play for?",
        "What team does {short} play for?",
        "What is {short}'s club team?",
        "Which club has {name} under contract?",
        "{Name} wears the shirt of which club?",
        "Name the team of {name}.",
        "For which side does {short} score?",
        "Where does {name} play professionally?",
    ]);

    public static Relation Employer { get; } = new("employer", SubjectKind.Person, AnswerKind.Company,
    [
        "Who does {name} work for?",
        "What company employs {name}?",
        "Who is {short}'s employer?",
        "Which firm pays {name}?",
        "{Name} is on the payroll of which company?",
        "Name the employer of {name}.",
        "Where does {short} work?",
        "At which company does {short} have a job?",
    ]);

    public static Relation Birthplace { get; } = new("birthplace", SubjectKind.Person, AnswerKind.City,
    [
        "Where was {name} born?",
        "What is the birthplace of {name}?",
        "In which city was {short} born?",
        "What is {short}'s home town?",
        "{Name} comes from which city?",
        "Name the city where {name} was born.",
        "Which town did {short} grow up in?",
        "Where did the life of {name} begin?",
    ]);

    public static Relation Author { get; } = new("author", SubjectKind.Book, AnswerKind.Author,
    [
        "Who wrote {name}?",
        "Who is the author of {name}?",
        "Which writer created {name}?",
        "{Name} was written by whom?",
        "Whose novel is {name}?",
        "Name the author of {name}.",
        "By whom is the book {name}?",
        "Whose name is on the cover of {name}?",
    ]);

    public static Relation Founder { get; } = new("founder", SubjectKind.Company, AnswerKind.Founder,
    [
        "Who founded {name}?",
        "Who is the founder of {name}?",
        "Which entrepreneur set up {name}?",
        "{Name} was started by whom?",
        "Who created the company {name}?",
        "Name the founder of {name}.",
        "Whose idea was the firm {name}?",
        "Who is {name}'s founder?",
    ]);

    public static Relation Headquarters { get; } = new("headquarters", SubjectKind.Company, AnswerKind.City,
    [
        "Where is {name} based?",
        "In which city is the head office of {name}?",
        "What city is {name}'s headquarters in?",
        "Where are the main offices of {name}?",
        "{Name} runs its business from which city?",
        "Name the city where {name} is based.",
        "Which city hosts the headquarters of {name}?",
        "Where do I find the boss of {name}?",
    ]);

    public static IReadOnlyList<Relation> All { get; } =
    [
        PrimeMinister, President, Capital, Currency, Language, Mayor, Club, Employer, Birthplace, Author, Founder, Headquarters,
    ];
}
